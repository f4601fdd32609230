"""Damaged inputs by the thousand: python tests/fuzz.py KIND COUNT SEED prints what came of them.

Every input is made from a sound one by a change drawn from the seed, then handed to what a user
would call. It may be accepted, or refused by one ValueError that names the file and was raised by
this package; anything else is a failure, and so is one that takes longer than 30 s or a process
that grows beyond 1 GB. `tests/test_fuzz.py` runs each kind in a process of its own.
"""

import base64
import contextlib
import copy
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from PIL import Image

import resnets
from resnets.formats import FORMAT
from resnets.preprocessing import Preprocessing
from resnets.runtime import onnxfile

HERE = Path(resnets.__file__).parent
EXPORTED = Path(__file__).parent / "data" / "format1" / "tiny.onnx"
SECONDS = 30
ODD = (
    *(None, True, {}, [], "", "x", "1", 0, -1, 1.5, 10**9, 10**400, 1e308, float("nan")),
    *(float("inf"), "inf", "NaN", "\0\x1b[2J", "../../etc", ["a"] * 5000, {"a": {"b": [None]}}),
)


class Slow(BaseException):
    """More than `SECONDS`."""


# ---------------------------------------------------------------------------------------------
# changes


def changed_bytes(rng, data):
    """One to three wounds: flips, a cut, zeros, a chunk twice, a huge length."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at, size = int(rng.integers(len(data) or 1)), int(rng.integers(1, 200))
        match rng.integers(6):
            case 0:
                for place in rng.integers(max(1, len(data)), size=min(size, 20)):
                    data[place : place + 1] = bytes([int(rng.integers(256))])
            case 1:
                del data[at:]
            case 2:
                data[at : at + size] = bytes(size)
            case 3:
                data[at:at] = data[at : at + size]
            case 4:
                data[at : at + 8] = b"\xff" * 8
            case 5:
                del data[at : at + size]
    return bytes(data)


def changed_value(rng, value):
    """A JSON value with one part, chosen evenly over the tree, replaced or removed."""
    value = copy.deepcopy(value)
    places = [(None, None)]

    def walk(node):
        keys = (
            node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        )
        for key in list(keys):
            places.append((node, key))
            walk(node[key])

    walk(value)
    node, key = places[rng.integers(len(places))]
    odd = ODD[rng.integers(len(ODD))]
    if rng.random() < 0.05:  # deep
        for _ in range(int(rng.integers(50, 3000))):
            odd = [odd]
    if node is None:
        return odd
    if isinstance(node, dict) and rng.random() < 0.2:
        del node[key]
    else:
        node[key] = odd
    return value


def dumps(value):
    """JSON also of what is nested too deeply for `json`."""
    try:
        return json.dumps(value)
    except RecursionError:
        return "[" * 100_000


def changed_text(rng, text):
    """A table or a YAML file as people and crashes leave them."""
    lines = text.splitlines(keepends=True) or [""]
    at = int(rng.integers(len(lines)))
    odd = (
        "\0",
        '"',
        "'",
        ";",
        "\t",
        "\\",
        "é",
        "\ufeff",
        "a: &a [*a, *a]",
        "!!python/name:os.x",
        "{",
    )
    match rng.integers(9):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[rng.integers(len(lines))])
        case 2:
            lines[at] = lines[at][: rng.integers(len(lines[at]) + 1)]
        case 3:
            place = int(rng.integers(len(lines[at]) + 1))
            lines[at] = lines[at][:place] + odd[rng.integers(len(odd))] + lines[at][place:]
        case 4:
            lines[at] = lines[at].replace(",", odd[rng.integers(len(odd))])
        case 5:
            key, colon, _ = lines[at].partition(":")
            value = ODD[rng.integers(len(ODD))]
            lines[at] = f"{key}{colon or ':'} {dumps(value)}\n"
        case 6:
            lines = lines[:at]
        case 7:
            lines[at] = "[" * int(rng.integers(1, 30_000)) + "\n"
        case 8:
            names = [f"a{number}" for number in range(30)]
            lines[at] = "a: &a [x, x]\n" + "".join(
                f"{name}: &{name} [*{last}, *{last}, *{last}, *{last}]\n"
                for last, name in zip(["a", *names], names, strict=False)
            )
    return "".join(lines)


# ---------------------------------------------------------------------------------------------
# kinds: each makes its sound inputs once in a folder and gives a function that makes one. What a kind
# needs is imported there, so that the memory of the others shows what they take themselves.


def photo(seed=0, size=(40, 30)):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def tiny_model():
    import torch

    from resnets import modelfile
    from resnets.models import Network

    network = Network.parse("resnet20 depths=1-1 widths=4-8", 2)
    torch.manual_seed(0)
    net = network.build().eval()
    description = modelfile.describe_network(network, net, 2, 3)
    return modelfile.Model(net, ("a", "b"), Preprocessing.square(16, 0.875), description)


def metadata_of(model):
    return {
        "network": model.network,
        "classes": list(model.classes),
        "preprocessing": model.preprocessing.to_dict(),
        "task": {"name": "classes", "smoothing": 0.1},
        "training": {"epochs": 1},
    }


def model_files(folder):
    import safetensors.torch
    import torch

    from resnets import modelfile
    from resnets.pretrained import read_state
    from resnets.torch_engine import TorchEngine

    model, path = tiny_model(), folder / "m.safetensors"
    modelfile.write_model(path, model.net.state_dict(), metadata_of(model))
    sound = path.read_bytes()
    bare = io.BytesIO()
    torch.save({"state_dict": model.net.state_dict(), "epoch": 1}, bare)

    def attempt(rng):
        kind = rng.integers(3)
        if kind == 0:
            path.write_bytes(changed_bytes(rng, sound))
        elif kind == 1:  # resealed, as somebody would who knows how
            changed = changed_value(rng, metadata_of(model))
            if isinstance(changed, dict):
                with contextlib.suppress(RecursionError):
                    modelfile.write_model(path, model.net.state_dict(), changed)
            else:
                path.write_bytes(
                    safetensors.torch.save(model.net.state_dict(), {modelfile.KEY: dumps(changed)})
                )
        else:
            other = folder / ("m.pth", "m.ckpt", "m.bin")[rng.integers(3)]
            other.write_bytes(changed_bytes(rng, bare.getvalue()))
            return other, lambda: read_state(other)
        return path, lambda: TorchEngine(modelfile.load_model(path))(np.asarray(photo())[None])

    return attempt


def onnx_files(folder):
    from resnets.runtime.proof import prove

    path = folder / "m.onnx"
    sound = EXPORTED.read_bytes()
    path.write_bytes(sound)
    metadata = present_metadata(path)
    body = sound[: -len(onnxfile._SEAL) - onnxfile._DIGEST]

    def attempt(rng):
        kind = rng.integers(3)
        if kind == 0:
            path.write_bytes(changed_bytes(rng, sound))
        elif kind == 1:
            path.write_bytes(onnxfile.seal(changed_bytes(rng, body)))
        else:  # the metadata property once more at the end: the last one counts
            text = dumps(changed_value(rng, metadata[rng.integers(len(metadata))])).encode()
            entry = b"\x0a\x07resnets\x12" + varint(len(text)) + text
            path.write_bytes(onnxfile.seal(body + b"\x72" + varint(len(entry)) + entry))
        return path, lambda: use(path)

    def use(path):
        prove(resnets.load(path, threads=1), onnxfile.read_onnx(path))
        (prediction,) = resnets.load(path, threads=1).predict(photo())
        return "refused" if prediction.error else "accepted"

    return attempt


def present_metadata(path):
    """Of the present format, with the golden outputs as a list and in base64; and as they are."""
    first = onnxfile.properties(memoryview(path.read_bytes()))[onnxfile.PROPERTY]
    listed = onnxfile.read_onnx(path).metadata | {
        "format": FORMAT,
        "outputs": {"probabilities": "N, classes"},
    }
    packed = copy.deepcopy(listed)
    for entry in packed["golden"]:
        numbers = np.array(entry["outputs"]["probabilities"], "<f4")
        text = base64.b64encode(numbers.tobytes()).decode()
        array = {"base64": text, "dtype": "float32", "shape": [len(numbers)]}
        entry["outputs"]["probabilities"] = array
    return [json.loads(first), listed, packed]


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def images(folder):
    sound = []
    for form, options in (
        ("JPEG", {}),
        ("PNG", {}),
        ("WEBP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
        ("PPM", {}),
        ("JPEG2000", {}),
        ("GIF", {}),
        ("AVIF", {}),
    ):
        stream = io.BytesIO()
        with contextlib.suppress(KeyError, OSError):
            photo(3).save(stream, form, **options)
            sound.append(stream.getvalue())
    for array in (np.float32(np.random.rand(20, 30)), np.uint16(np.random.rand(20, 30) * 4095)):
        stream = io.BytesIO()
        Image.fromarray(array).save(stream, "TIFF")
        sound.append(stream.getvalue())
    from resnets.data.check import check_images
    from resnets.data.sources import find_data

    predictor = resnets.load(EXPORTED, threads=1)
    data = folder / "data"
    for name in ("a", "b"):
        (data / name).mkdir(parents=True)
        photo(len(name)).save(data / name / "sound.png")
    path = data / "a" / "x.png"

    def attempt(rng):
        path.write_bytes(changed_bytes(rng, sound[rng.integers(len(sound))]))

        def use():
            check_images(find_data(data))
            (prediction,) = predictor.predict([str(path)])
            assert prediction.error or np.isfinite(prediction.probability)
            return "refused" if prediction.error else "accepted"

        return path, use

    return attempt


def tables(folder):
    from resnets.data.check import check_images
    from resnets.data.sources import find_data
    from resnets.runtime.outputs import open_output
    from resnets.runtime.rows import Columns

    data = folder / "data"
    data.mkdir()
    for number in range(6):
        photo(number).save(data / f"{number}.png")
    rows = "".join(f"{number}.png,{'ab'[number % 2]},,g{number}\n" for number in range(6))
    sound = "file_name,label,split,group\n" + rows
    table = data / "labels.csv"
    predictor = resnets.load(EXPORTED, threads=1)
    names = [str(data / f"{number}.png") for number in range(3)]
    columns = Columns.of(predictor.kind)
    made, outputs = {"model": "tiny", "sha256": predictor.sha256}, {}

    def predict(out, count):
        with open_output(out, names[:count], made, columns) as output:
            output.write(predictor.predict(output.files()))

    for suffix in (".csv", ".jsonl"):
        out = folder / f"out{suffix}"
        predict(out, 2)
        beside = out.with_name(f"{out.name}.source.jsonl")
        outputs |= {file: (out, file.read_text("utf-8")) for file in (out, beside)}

    def attempt(rng):
        encoding = ("utf-8", "utf-8", "utf-8", "utf-16", "latin-1")[rng.integers(5)]
        if rng.random() < 0.6:
            table.write_text(changed_text(rng, sound), encoding, errors="replace")
            return table, lambda: check_images(find_data(data))
        for file, (_, text) in outputs.items():
            file.write_text(text, "utf-8")
        file = list(outputs)[rng.integers(len(outputs))]
        out, text = outputs[file]
        file.write_text(changed_text(rng, text), encoding, errors="replace")
        return out, lambda: predict(out, 3)

    return attempt


def settings_files(folder):
    from resnets.cli.config import read_config

    path = folder / "c.yaml"
    sound = "model: resnet20\nepochs: 3\nlr: 0.1\nsize: 32\nflip: none\nnorms: train\nseed: 4\n"

    def attempt(rng):
        path.write_text(changed_text(rng, sound), "utf-8")
        return path, lambda: read_config(path)

    return attempt


def run_folders(folder):
    from resnets import modelfile
    from resnets.run.measure import measure_and_report
    from resnets.run.spec import Spec
    from resnets.screen import Screen

    data, run = folder / "data", folder / "run"
    for number in range(12):
        place = data / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        photo(number, (24, 24)).save(place)
    code = (
        "import sys, resnets; resnets.train(sys.argv[1], 'resnet20 depths=1-1 widths=4-8',"
        "weights='none', epochs=4, batch_size=4, size=16, output=sys.argv[2], quiet=True,"
        "callbacks=[lambda row: True])"
    )
    subprocess.run([sys.executable, "-c", code, data, run], check=True)
    kept = folder / "kept"
    shutil.copytree(run, kept)
    files = ("args.yaml", "split.csv", "summary.json", "results.csv", "weights/last.safetensors")

    class Enough(Exception):
        pass

    def enough(*_):
        raise Enough

    # resuming itself is tested elsewhere, and takes seconds
    resnets.run.go_on = resnets.run._begin = enough

    def resume():
        Spec.read(run / "args.yaml")
        with contextlib.suppress(Enough):
            resnets.run.resume(run, quiet=True)

    def attempt(rng):
        name = files[rng.integers(len(files))]
        sound, path = (kept / name).read_bytes(), run / name
        for other in files:
            shutil.copyfile(kept / other, run / other)
        if name.endswith(("yaml", "csv")):
            path.write_text(changed_text(rng, sound.decode()), "utf-8")
        elif name.endswith("json") and rng.random() < 0.7:
            path.write_text(dumps(changed_value(rng, json.loads(sound))))
        else:
            path.write_bytes(changed_bytes(rng, sound))
        if name == "split.csv" and rng.random() < 0.3:
            model = modelfile.load_model(kept / "weights" / "best.safetensors")
            return path, lambda: measure_and_report(model, run, None, None, None, Screen(True))
        return path, resume

    return attempt


KINDS = {
    "model_files": model_files,
    "onnx_files": onnx_files,
    "images": images,
    "tables": tables,
    "settings_files": settings_files,
    "run_folders": run_folders,
}


# ---------------------------------------------------------------------------------------------


def judge(path, use):
    """How one input ended: "accepted", "refused" (by a message, or by what `use` says of it), or what
    went wrong."""

    def ring(*_):
        raise Slow

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        end = use()
        return end if isinstance(end, str) else "accepted"
    except ValueError as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        if HERE not in Path(frame.filename).parents:
            return f"a bare message of {frame.filename}:{frame.lineno}: {error}"
        if path.name not in str(error) and path.parent.name not in str(error):
            return f"does not name {path.name}: {error}"
        return "refused"
    except Slow:
        return f"more than {SECONDS} s"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:300]} ({where.filename}:{where.lineno})"
    finally:
        signal.alarm(0)


def peak():
    """The largest resident size so far in MB; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) // 1000 for line in lines if line.startswith("VmHWM"))


def main():
    """Tries COUNT inputs of a kind and prints the outcome as JSON."""
    kind, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    ends, failures, slowest = {"accepted": 0, "refused": 0}, [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        attempt = KINDS[kind](Path(folder))
        with contextlib.suppress(OSError):  # what making the sound inputs took does not count
            Path("/proc/self/clear_refs").write_text("5")
        for number in range(count):
            path, use = attempt(np.random.default_rng((seed, number)))
            start = time.monotonic()
            end = judge(path, use)
            slowest = max(slowest, time.monotonic() - start)
            if end in ends:
                ends[end] += 1
            else:
                failures.append(f"{kind} {seed} {number}: {end}")
    outcome = {"tried": count, **ends, "slowest": round(slowest, 2), "peak_mb": peak()}
    print(json.dumps({**outcome, "failures": failures}))


if __name__ == "__main__":
    main()
