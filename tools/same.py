"""Prove that a change of the code leaves its results as they were, bit for bit: train, resume,
validate and predict with the source of a commit and with the working tree, and compare.

    python tools/same.py            # the working tree against HEAD~1
    python tools/same.py v0.1.0     # against another commit
    python tools/same.py HEAD --seed 1   # the working tree with another seed: must differ

The exit code is 1 if anything differs. Both sides run on one thread, since sums in another order
are other sums. Only the public interface is used, so that what lies below it may be renamed.
"""

from __future__ import annotations

import argparse
import csv
import html
import importlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
SHAPES = ("disc", "ring", "square")
STOP_AFTER = 5  # rows of results.csv, of 15
TIMES = {"seconds", "images_per_second"}
# Of metadata: what says when, with what, and in which form a file was written
PASSING = TIMES | {"versions", "sha256", "format"}
PATHS = {"run", "model", "onnx", "report"}  # of summary.json
TABLES = ("labels.csv", "labels.jsonl", "probabilities.csv", "probabilities.jsonl")


def make_data(folder: Path) -> None:
    """Colour images in train/ and test/, 16-bit ones with a table, and a folder to predict on."""
    rng = np.random.default_rng(0)
    for (split, count), shape in itertools.product({"train": 20, "test": 8}.items(), SHAPES):
        for number in range(count):
            path = folder / "shapes" / split / shape / f"{shape}{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            height = int(rng.integers(36, 80))
            width = height * 2 if number % 5 == 0 else int(rng.integers(36, 80))
            draw(rng, shape, height, width, 3).save(path)
    twin = folder / "shapes" / "train" / "disc"
    shutil.copy(twin / "disc01.png", twin / "twin.png")

    deep, lines = folder / "deep", ["file_name,label,group"]
    deep.mkdir()
    for number in range(36):
        shape = SHAPES[number % 2]
        image = np.asarray(draw(rng, shape, 40, 44, 1), np.uint16) * 9 + 700
        Image.fromarray(image).save(deep / f"{number:02}.png")
        lines.append(f"{number:02}.png,{shape},{number // 4}")
    (deep / "labels.csv").write_text("\n".join(lines) + "\n")

    below = folder / "new" / "below"
    below.mkdir(parents=True)
    for number, shape in enumerate(SHAPES * 2):
        place = below if number % 2 else folder / "new"
        draw(rng, shape, 50 + 9 * number, 70, 3).save(place / f"{number}.jpg", quality=90)
    (below / "broken.jpg").write_bytes(b"no image")


def draw(rng: np.random.Generator, shape: str, height: int, width: int, channels: int) -> Image:
    """A shape of any colour, size and place, under noise that makes it hard to tell."""
    y, x = np.mgrid[:height, :width]
    radius = rng.uniform(8, 15)
    dy, dx = y - rng.uniform(16, height - 16), x - rng.uniform(16, width - 16)
    distance = np.maximum(abs(dy), abs(dx)) if shape == "square" else np.hypot(dy, dx)
    inside = (distance < radius) & ((shape != "ring") | (distance > radius / 2))
    ground, color = rng.uniform(60, 195, (2, channels))
    image = np.where(inside[:, :, None], color, ground) + rng.normal(0, 40, (height, width, 1))
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8).squeeze())


def run_scenario(seed: int, quick: bool) -> None:
    """All runs of one side, in a working folder that contains data/, to runs/ and cli/."""
    import torch

    import resnets

    torch.set_num_threads(1)
    side = Path(os.environ["PYTHONPATH"])
    assert Path(resnets.__file__).is_relative_to(side), f"{resnets.__file__} is not in {side}"

    def train(name: str, data: str, model: str, **settings: Any) -> None:
        settings = {"weights": "none", "seed": seed, "workers": 1, "device": "cpu", **settings}
        resnets.train(data, model, output=f"runs/{name}", quiet=True, **settings)

    shapes, small = "data/shapes", "resnet20 depths=1-1-1"
    calls = itertools.count(1)
    train("scratch", shapes, small, size=32, epochs=3)
    # Any callback ends a run
    stop = {"callbacks": [lambda row: next(calls) >= STOP_AFTER]}
    train("resumed", shapes, small, size=32, epochs=3, **stop)
    importlib.import_module("resnets.run").resume("runs/resumed", quiet=True)
    if not quick:
        network = "resnet18 depths=1-1-1-1 widths=8-16-16-32"
        cut = {"size": 64, "crop": "resized", "smoothing": 0.1}
        train("first", shapes, network, epochs=1, **cut)
        weights = "runs/first/weights/best.safetensors"
        train("tuned", shapes, network, epochs=2, weights=weights, **cut)
        train("deep", "data/deep", small, size=32, epochs=2, channels=1, bits=16)
    use_command_line("runs/scratch/shapes.onnx")


def use_command_line(model: str) -> None:
    """Validates and predicts with an exported file."""
    Path("cli").mkdir()

    def call(*arguments: str) -> bytes:
        command = [sys.executable, "-m", "resnets", *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout

    Path("cli/val.json").write_bytes(call("val", model, "data/shapes", "--json"))
    for table in TABLES:
        probabilities = ["--probs"] if table.startswith("probabilities") else []
        call("predict", model, "data/new", "-o", f"cli/{table}", *probabilities)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a model file by their names."""
    from safetensors.numpy import load_file

    return dict(sorted(load_file(path).items()))


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a file of either kind in the form of the working tree's own format."""
    if path.suffix == ".onnx":
        from resnets.runtime.onnxfile import read_onnx

        return without(read_onnx(path).metadata, PASSING)
    from resnets.modelfile import read_model

    metadata = without(read_model(path)[1], PASSING)
    sums = metadata.get("checkpoint", {}).get("sums")
    if sums == [0.0, 0.0, 0.0]:  # at the end of a row, before sums had names
        metadata["checkpoint"]["sums"] = {}
    return metadata


def read_graph(path: Path) -> dict[str, bytes]:
    """An exported graph without any metadata: its nodes, its weights, and the whole of it."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    parts = [*graph.initializer, *graph.node, *graph.value_info, *graph.input, *graph.output]
    for message in (model, graph, *parts, *model.functions):
        message.ClearField("metadata_props")
    named = {**{part.name: part for part in parts}, "the whole model": model}
    return {name: part.SerializeToString(deterministic=True) for name, part in named.items()}


def read_table(path: Path) -> bytes:
    """A table as it is, but for the folder of a side in the paths."""
    return re.sub(rb"[^\",]*/same-\w+/(old|new)/", b"", path.read_bytes())


def read_results(path: Path) -> list[dict[str, str]]:
    """The rows of results.csv."""
    with path.open(newline="") as file:
        return without(list(csv.DictReader(file)), TIMES)


def read_summary(path: Path) -> dict[str, Any]:
    """What summary.json says but for time and places."""
    return without(json.loads(path.read_text()), TIMES | PATHS)


def read_report(path: Path) -> list[str]:
    """The words that a report shows, however its source is broken into lines, without times."""
    hidden = re.sub(r"<(style|script)\b.*?</\1>", "", path.read_text(), flags=re.DOTALL)
    text = html.unescape(re.sub(r"<[^>]*>", "\n", hidden))
    text = re.sub(r"\d+ s of training", "some time of training", text)
    return text.split()


def readings(folder: Path) -> list[tuple[str, Callable[[Path], Any]]]:
    """The files of a run by their names, each with what reads it."""
    models = [f"weights/{name}.safetensors" for name in ("last", "best")]
    exported = [file.name for file in folder.glob("*.onnx")]
    return [
        *itertools.product(models, (read_tensors, read_metadata)),
        *itertools.product(exported, (read_graph, read_metadata)),
        *itertools.product(("split.csv", "predictions.csv"), (read_table,)),
        ("results.csv", read_results),
        ("summary.json", read_summary),
        ("report.html", read_report),
    ]


CLI_FILES = [("val.json", read_summary), *itertools.product(TABLES, (read_table,))]


def without(value: Any, names: set[str]) -> Any:
    """A JSON value without some keys, at any depth."""
    if isinstance(value, list):
        return [without(one, names) for one in value]
    if isinstance(value, dict):
        return {key: without(one, names) for key, one in value.items() if key not in names}
    return value


def first_difference(old: Any, new: Any, place: str = "") -> str | None:
    """Where two values differ first, with both; None if they are equal to the last bit. What the
    new one says besides is no difference (`added`)."""
    if isinstance(old, dict) and isinstance(new, dict):
        if lost := [key for key in old if key not in new]:
            return f"{place} {lost[0]} only in the old one"
        pairs = [(f"{place}.{key}".strip("."), old[key], new[key]) for key in old]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(f"{place}[{i}]", *both) for i, both in enumerate(zip(old, new, strict=True))]
    elif isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        return _differing_numbers(old, new, place)
    else:
        return _differing_texts(repr(old), repr(new), place)
    return next(filter(None, (first_difference(a, b, name) for name, a, b in pairs)), None)


def added(old: Any, new: Any) -> list[str]:
    """Keys that only the new value has."""
    if isinstance(old, dict) and isinstance(new, dict):
        inner = [name for key in old if key in new for name in added(old[key], new[key])]
        return [*(key for key in new if key not in old), *inner]
    if isinstance(old, list) and isinstance(new, list):
        return [name for both in zip(old, new, strict=False) for name in added(*both)]
    return []


def _differing_numbers(old: np.ndarray, new: np.ndarray, place: str) -> str | None:
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return f"{place} {old.dtype}{old.shape} became {new.dtype}{new.shape}"
    if old.tobytes() == new.tobytes():
        return None
    most = np.abs(old.astype(float) - new.astype(float)).max()
    return f"{place} {(old != new).sum()} of {old.size} values, by up to {most:.3g}"


def _differing_texts(old: str, new: str, place: str) -> str | None:
    if old == new:
        return None
    pairs = itertools.zip_longest(old, new)
    start = max(0, next(i for i, (a, b) in enumerate(pairs) if a != b) - 20)
    return f"{place} {old[start : start + 60]} became {new[start : start + 60]}"


def compare(name: str, read: Callable[[Path], Any], old: Path, new: Path) -> bool:
    """Whether `read` finds the same in two files; prints where it does not."""
    before, after = read(old), read(new)
    found = first_difference(before, after)
    if found is None and (more := sorted(set(added(before, after)))):
        name += f" (new: {', '.join(more)})"
    verdict = "equal" if found is None else "DIFFERENT"
    print(verdict, name, read.__name__.removeprefix("read_"), found or "")
    return found is None


def unpack(ref: str, folder: Path) -> Path:
    """The source of a commit."""
    archive = subprocess.run(["git", "-C", ROOT, "archive", ref, "src"], capture_output=True)
    if archive.returncode:
        raise SystemExit(f"{ref}: {archive.stderr.decode().strip()}; name a commit of {ROOT}")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "src"


def start(source: Path, folder: Path, seed: int, quick: bool) -> subprocess.Popen[bytes]:
    """Starts the scenario with some source in a folder."""
    command = [sys.executable, __file__, "--scenario", "--seed", str(seed), *["--quick"] * quick]
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def run_both(ref: str, folder: Path, seed: int, quick: bool) -> tuple[Path, Path]:
    """Runs the scenario with the source of a commit and with the working tree, at the same time;
    the folders with what came of it."""
    old, new = folder / "old", folder / "new"
    make_data(old / "data")
    shutil.copytree(old / "data", new / "data")
    running = {
        old: start(unpack(ref, folder), old, 0, quick),
        new: start(ROOT / "src", new, seed, quick),
    }
    if failed := [side for side, process in running.items() if process.wait()]:
        raise SystemExit(f"the {failed[0].name} side failed:\n{(failed[0] / 'log').read_text()}")
    return old, new


def compare_with(ref: str, seed: int, quick: bool) -> int:
    """Runs both sides and compares them; the exit code."""
    with tempfile.TemporaryDirectory(prefix="same-") as name:
        old, new = run_both(ref, Path(name), seed, quick)
        pairs = [(run.name, run, new / "runs" / run.name) for run in sorted(old.glob("runs/*"))]
        pairs.append(("resumed as never stopped", new / "runs/scratch", new / "runs/resumed"))
        pairs.append(("command line", old / "cli", new / "cli"))
        equal = [
            compare(f"{title}: {file}", read, before / file, after / file)
            for title, before, after in pairs
            for file, read in (CLI_FILES if before.name == "cli" else readings(before))
        ]
    print(f"{equal.count(False)} of {len(equal)} differ from {ref}")
    return int(not all(equal))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("ref", nargs="?", default="HEAD~1", help="a commit to compare with")
    parser.add_argument("--seed", type=int, default=0, help="seed of the working tree's runs")
    parser.add_argument("--quick", action="store_true", help="the first network alone")
    parser.add_argument("--scenario", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.scenario:
        run_scenario(arguments.seed, arguments.quick)
        return
    sys.path.insert(0, str(ROOT / "src"))  # reads the files of both sides
    sys.exit(compare_with(arguments.ref, arguments.seed, arguments.quick))


if __name__ == "__main__":
    main()
