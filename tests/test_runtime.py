"""The runtime: small graphs written with the onnx package, read, run, proven and written to tables
without it."""

import base64
import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resnets.formats import FORMAT
from resnets.images import BadImage
from resnets.kinds import KINDS
from resnets.kinds.prediction import Outputs
from resnets.preprocessing import Preprocessing
from resnets.runtime import Predictor, cores, load, onnxfile, predictor, protobuf
from resnets.runtime.cores import usable_cores
from resnets.runtime.engines import ENGINES, EngineError, available_engines, make_engine
from resnets.runtime.folders import count_images, find_images
from resnets.runtime.onnxfile import read_onnx, seal, write_onnx
from resnets.runtime.proof import prove

onnx = pytest.importorskip("onnx", reason="the graphs under test are built with the onnx package")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

CLASSES = ["red", "green", "blue"]
CLASS_KIND = KINDS["classes"]
COLORS = {"red": (250, 20, 30), "green": (10, 240, 20), "blue": (0, 30, 250)}
ENGINE_NAMES = [
    "onnxruntime",
    pytest.param(
        "openvino",
        marks=pytest.mark.skipif("openvino" not in available_engines(), reason="openvino"),
    ),
]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def noise(seed: int, height: int = 9, width: int = 13) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def expected(image: np.ndarray) -> np.ndarray:
    """What the graph below computes, in NumPy: the softmax of 8 times the mean colour."""
    logits = (
        8 * image.reshape(-1, image.shape[-1]).mean(0) / (255 if image.dtype == np.uint8 else 65535)
    )
    return (np.exp(logits) / np.exp(logits).sum()).astype(np.float32)


def graph(
    channels: int = 3, tensor: int = TensorProto.UINT8, heat: bool = True
) -> "onnx.ModelProto":
    weights = np.zeros((3, channels), np.float32) + 8 * np.eye(3, channels, dtype=np.float32)
    scale = np.float32(255 if tensor == TensorProto.UINT8 else 65535)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "scale"], ["unit"]),
        helper.make_node("ReduceMean", ["unit", "axes"], ["embedding"], keepdims=0),
        helper.make_node("Gemm", ["embedding", "weights"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("Transpose", ["unit"], ["maps"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["maps", "filters"], ["heat"]),
    ]
    constants = {
        "scale": scale,
        "axes": np.array([1, 2]),
        "weights": weights,
        "filters": weights[:, :, None, None],
    }
    outputs = [
        ("probabilities", ["N", 3]),
        ("embedding", ["N", channels]),
        ("heat", ["N", 3, "H", "W"]),
    ]
    return helper.make_model(
        helper.make_graph(
            nodes if heat else nodes[:-2],
            "mean",
            [helper.make_tensor_value_info("image", tensor, ["N", "H", "W", channels])],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in (outputs if heat else outputs[:-1])
            ],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )


def metadata(**changes) -> dict:
    golden = [
        {
            "png": [base64.b64encode(png(Image.fromarray(noise(i)))).decode()],
            "outputs": {"probabilities": expected(noise(i)).tolist()},
        }
        for i in range(4)
    ]
    values = {
        "format": FORMAT,
        "model": "resnet18",
        "classes": CLASSES,
        "preprocessing": Preprocessing.square(8).to_dict(),
        "golden": golden,
        "task": {"name": "classes"},
        "limits": {"probability": 0.02},
        "origin": "사진",
    }
    return values | changes


def serialized(model: "onnx.ModelProto | None" = None, values: object = None) -> bytes:
    model = model or graph()
    helper.set_model_props(model, {"resnets": json.dumps(metadata() if values is None else values)})
    return model.SerializeToString()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "colours.onnx"
    write_onnx(path, serialized())
    return path


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, (name, color) in enumerate(COLORS.items()):
        Image.new("RGB", (20 + i, 10), color).save(folder / f"{i}_{name}.png")
    return folder


# --- the file


def test_a_file_comes_back_as_it_was_written(model):
    file = read_onnx(model)
    assert file.classes == tuple(CLASSES)
    assert file.preprocessing == Preprocessing.square(8)
    assert file.metadata == metadata()
    assert model.read_bytes() == seal(serialized())
    for i, (image, outputs) in enumerate(file.golden):
        assert set(outputs) == {"probabilities"}
        (probabilities,) = outputs["probabilities"]
        np.testing.assert_array_equal(image, noise(i))
        np.testing.assert_array_equal(probabilities, expected(noise(i)))
        assert probabilities.dtype == np.float32
    # the seal is ordinary protobuf to everybody else
    parsed = onnx.load_model_from_string(file.path.read_bytes())
    onnx.checker.check_model(parsed)
    assert [entry.key for entry in parsed.metadata_props] == ["resnets", "resnets_sha256"]
    assert len(parsed.metadata_props[1].value) == 64


def test_golden_images_keep_sixteen_bits(tmp_path):
    values = noise(0)[:, :, 0].astype(np.uint16) * 250
    entry = {
        "png": [base64.b64encode(png(Image.fromarray(values))).decode()],
        "outputs": {"probabilities": [1.0, 0.0, 0.0]},
    }
    deep = Preprocessing.square(8, channels=1, value_range=65535, mean=(0.5,), std=(0.5,))
    write_onnx(
        tmp_path / "a.onnx",
        serialized(
            graph(1, TensorProto.UINT16), metadata(preprocessing=deep.to_dict(), golden=[entry])
        ),
    )
    np.testing.assert_array_equal(read_onnx(tmp_path / "a.onnx").golden[0][0], values[:, :, None])
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(values).save(folder / "deep.png")
    (found,) = load(tmp_path / "a.onnx").predict(folder)
    seen = deep.pixels(Image.fromarray(values))
    assert found.embedding[0] == pytest.approx(seen.mean() / 65535, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_altered_bit_and_every_cut_is_noticed(tmp_path_factory, data):
    whole = seal(serialized())
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("damage") / "a.onnx"
    for damaged in (bytes(flipped), whole[:at], whole + b"\0", whole[:at] + whole[at + 1 :]):
        path.write_bytes(damaged)
        with pytest.raises(
            ValueError,
            match=r"a\.onnx: (altered or damaged|this is not a file of `resnets export`)",
        ):
            read_onnx(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            metadata(format=7),
            r"made by a newer resnets \(format 7\); this one reads up to 2: upgrade",
        ),
        ({"format": 9}, "newer resnets"),  # even if nothing else is as it used to be
        (
            {key: value for key, value in metadata().items() if key not in ("golden", "limits")},
            "missing: golden, limits",
        ),
        (metadata(preprocessing={"size": [0, 8]}), "size"),
        (metadata(preprocessing={"zoom": 3}), "zoom"),
        (metadata(preprocessing=[1]), "not those"),
        (metadata(classes=["a", "a"]), "different names"),
        (metadata(format="x"), "not those"),
        ([1, 2], "not those"),
        ("text", "not those"),
    ],
)
def test_metadata_of_another_kind_are_refused_before_and_after_writing(tmp_path, values, message):
    path = tmp_path / "a.onnx"
    with pytest.raises(ValueError, match=message):
        write_onnx(path, serialized(values=values))
    assert not list(tmp_path.iterdir())
    path.write_bytes(seal(serialized(values=values)))
    with pytest.raises(ValueError, match=message):
        read_onnx(path)


def test_other_files_are_refused_with_the_cure(tmp_path):
    (tmp_path / "other.onnx").write_bytes(graph().SerializeToString())
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "sealed.onnx").write_bytes(seal(b"\xff" * 99))
    (tmp_path / "best.safetensors").touch()
    cures = {
        "none.onnx": "no such file",
        "other.onnx": "not a file of `resnets export`.*make it with",
        "empty.onnx": "not a file of",
        "sealed.onnx": "not an ONNX model",
        "best.safetensors": r"pip install 'resnets\[train\]'.*resnets export",
        ".": r"a run folder.*resnets\[train\]",
    }
    for name, cure in cures.items():
        with pytest.raises(ValueError, match=cure):
            load(tmp_path / name)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=40)
    | st.builds(lambda head, tail: head + tail, st.just(serialized()[:60]), st.binary(max_size=20))
)
def test_the_parser_stays_inside_the_bytes(data):
    with contextlib.suppress(ValueError):  # UnicodeDecodeError is one
        protobuf.properties(memoryview(data))
    for beyond in (
        b"\x72\x05ab",
        b"\x72\xff",
        b"\x08\x80",
        b"\x09\0\0",
        b"\x73",
        b"\x72" + b"\x80" * 10 + b"\0",
    ):
        with pytest.raises(ValueError, match="not an ONNX model"):
            protobuf.properties(memoryview(data[:0] + beyond))


def test_a_full_disk_leaves_the_old_file_and_nothing_else(model, tmp_path, monkeypatch):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"old")

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_onnx(path, serialized())
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.onnx", b"old")]


# --- engines


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_engines_compute_the_graph_for_any_size_and_number(model, name):
    engine = make_engine(name, model.read_bytes())
    assert engine.name == name
    assert engine.version[0].isdigit()
    for n, height, width in [(1, 9, 13), (3, 30, 7), (1, 1, 1), (2, 9, 13)]:
        images = np.stack([noise(i, height, width) for i in range(n)])
        outputs = engine(images)
        np.testing.assert_allclose(
            outputs["probabilities"], [expected(image) for image in images], atol=1e-5
        )
        assert outputs["embedding"].shape == (n, 3)
        assert outputs["heat"].shape == (n, 3, height, width)
        assert all(values.dtype == np.float32 for values in outputs.values())
    before = outputs["probabilities"].copy()
    engine(255 - images)
    # outputs are not overwritten by the next ones
    np.testing.assert_array_equal(outputs["probabilities"], before)


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_an_output_that_goes_by_several_names_is_found_by_ours(name):
    """Where nothing happens between a value and an output, OpenVINO keeps both names."""
    model = graph()
    means = next(node for node in model.graph.node if node.output[0] == "embedding")
    means.output[0] = "a_mean"
    for node in model.graph.node:
        if node.input[0] == "embedding":
            node.input[0] = "a_mean"
    model.graph.node.append(helper.make_node("Identity", ["a_mean"], ["embedding"]))
    found = make_engine(name, model.SerializeToString(), kind=CLASS_KIND)(noise(0)[None])
    assert set(found) == {"probabilities", "embedding", "heat"}
    np.testing.assert_allclose(found["embedding"][0], noise(0).mean((0, 1)) / 255, atol=1e-5)
    np.testing.assert_allclose(found["probabilities"][0], expected(noise(0)), atol=1e-5)


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_engines_answer_several_threads(model, name):
    engine = make_engine(name, model.read_bytes())
    images = [noise(i, 5 + i, 50 - i) for i in range(40)]
    found = {}
    threads = [
        threading.Thread(
            target=lambda part: found.update(
                {i: engine(images[i][None])["probabilities"][0] for i in part}
            ),
            args=[range(k, 40, 4)],
        )
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(
        [found[i] for i in range(40)], [expected(image) for image in images], atol=1e-5
    )


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_optional_outputs_may_be_missing_and_new_ones_are_ignored(name):
    small = graph(heat=False)
    small.graph.node.append(helper.make_node("Identity", ["logits"], ["later"]))
    small.graph.output.append(helper.make_tensor_value_info("later", TensorProto.FLOAT, ["N", 3]))
    found = make_engine(name, seal(serialized(small)), kind=CLASS_KIND)(noise(0)[None])
    assert set(found) == {"probabilities", "embedding"}
    np.testing.assert_allclose(found["probabilities"][0], expected(noise(0)), atol=1e-5)
    bare = make_engine(name, seal(serialized(small)))  # of no kind: all that is there
    assert set(bare(noise(0)[None])) >= {"probabilities", "embedding", "later"}


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_what_an_engine_cannot_run_is_refused(name):
    strange = graph()
    strange.graph.node[4].op_type = "Softmaxest"
    with pytest.raises(ValueError, match=f"{name} .* cannot run this file .*upgrade"):
        make_engine(name, seal(serialized(strange)))


def test_unknown_and_missing_engines_name_the_cure(model, monkeypatch):
    with pytest.raises(ValueError, match=r"'tensorflow'; allowed: auto, onnxruntime, openvino"):
        load(model, engine="tensorflow")
    for threads in (-1, -5, 2000, 1.5, "2", True, None):
        with pytest.raises(ValueError, match=r"threads is .*; allowed"):
            make_engine("onnxruntime", model, threads)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ValueError, match=r'pip install "resnets\[openvino\]"'):
        load(model, engine="openvino")
    assert set(available_engines()) <= set(ENGINES)
    assert 1 <= usable_cores() <= os.cpu_count()


@pytest.mark.parametrize(
    ("own", "files", "allowed"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, [1.5]),
        ("0::/", {"cpu.max": "max 100000"}, []),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, [0.5]),
        ("0::/of/the/host", {"cpu.max": "200000 100000"}, [2.0]),  # of a container, at the top
        (
            "5:memory:/x\n4:cpu,cpuacct:/x",
            {"cpu/x/cpu.cfs_quota_us": "400000\n", "cpu/x/cpu.cfs_period_us": "100000\n"},
            [4.0],
        ),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, []),
        (None, {"cpu.max": "100000 100000"}, []),
    ],
)
def test_the_limit_of_a_container(own, files, allowed, tmp_path, monkeypatch):
    groups, mine = tmp_path / "cgroup", tmp_path / "own"
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text)
    if own is not None:
        mine.write_text(own + "\n")
    assert list(cores.quotas(groups, mine)) == allowed
    monkeypatch.setattr(cores, "GROUPS", groups)
    monkeypatch.setattr(cores, "OWN", mine)
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert usable_cores() <= max(1, min([free, *map(int, allowed)]))


# --- predictions


def test_a_folder_is_answered_in_order(model, photos):
    (photos / "sub.png").mkdir()
    Image.new("RGB", (5, 5), COLORS["blue"]).save(
        photos / "sub.png" / "한글 사진 \N{SEE-NO-EVIL MONKEY}.JPG"
    )
    (photos / "notes.txt").write_text("not looked at")
    found = list(load(model).predict(photos))
    assert [p.file for p in found] == [
        str(photos / name) for name in ("0_red.png", "1_green.png", "2_blue.png")
    ] + [str(photos / "sub.png" / "한글 사진 \N{SEE-NO-EVIL MONKEY}.JPG")]
    assert [p.label for p in found] == ["red", "green", "blue", "blue"]
    np.testing.assert_allclose(
        found[0].probabilities, expected(np.full((1, 1, 3), COLORS["red"], np.uint8)), atol=1e-5
    )
    assert found[0].embedding.shape == (3,)
    assert found[0].heat is None
    (hot,) = load(model).predict(photos / "1_green.png", heat=True)
    assert hot.heat.shape == (3, 8, 8)
    again = load(model).predict([photos, photos / "0_red.png"], skip={str(photos / "1_green.png")})
    assert [p.label for p in again] == ["red", "blue", "blue", "red"]


def test_bad_files_have_a_reason_and_do_not_stop_the_others(model, photos):
    whole = io.BytesIO()
    Image.fromarray(noise(0, 200, 200)).save(whole, "JPEG")
    (photos / "a_cut.jpg").write_bytes(whole.getvalue()[:2000])
    (photos / "b_empty.jpg").touch()
    (photos / "c_text.jpg").write_text("hello")
    Image.new("P", (4, 4)).save(photos / "d_gif.jpg", "GIF")
    bomb = bytearray(png(Image.new("RGB", (1, 1))))
    bomb[16:24] = (30000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    (photos / "e_bomb.png").write_bytes(bomb)
    (photos / "f_circle.png").symlink_to("f_circle.png")
    (photos / "g_broken.png").symlink_to("nowhere.png")
    (photos / "h_loop").symlink_to(".")
    os.mkfifo(photos / "i_pipe.png")
    found = {Path(p.file).name: p for p in load(model).predict(photos)}
    assert [name for name, p in found.items() if p.error is None] == [
        "0_red.png",
        "1_green.png",
        "2_blue.png",
    ]
    assert [name[0] for name in found if found[name].error] == list("abcdefgi")
    assert found["b_empty.jpg"].error == "empty file"
    assert "GIF" in found["d_gif.jpg"].error
    assert "900000000 pixels" in found["e_bomb.png"].error
    assert found["g_broken.png"].error == "no such file"
    assert "neither a file nor a folder" in found["i_pipe.png"].error
    assert all(
        p.error and p.label == "" and p.classes == tuple(CLASSES)
        for name, p in found.items()
        if name[0] in "abcdefgi"
    )


def test_two_linked_folders_end(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "link").symlink_to(tmp_path / other)
        (tmp_path / name / "x.png").touch()
    names = [os.path.relpath(name, tmp_path) for name in find_images(tmp_path)]
    assert names == ["a/link/x.png", "a/x.png", "b/link/x.png", "b/x.png"]


def test_mistakes_show_before_anything_starts(model, tmp_path, photos, monkeypatch):
    ready = load(model)
    monkeypatch.setattr(predictor, "decode", lambda *_: pytest.fail("started"))
    with pytest.raises(ValueError, match=r"none\.png: no such file or folder"):
        ready.predict([photos, tmp_path / "none.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no image in this folder.*\.jpg"):
        ready.predict(str(tmp_path / "empty"))
    (photos / "locked").mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(
        ValueError, match=r"locked: this folder cannot be read \(Permission denied\)"
    ):
        ready.predict(photos)


def test_a_file_that_is_named_is_tried_whatever_its_suffix(model, photos):
    odd = photos / "0_red.png"
    odd = odd.rename(odd.with_name("picture.dat"))
    assert [p.label for p in load(model).predict([odd])] == ["red"]
    assert count_images(photos) == 2


def test_predictions_come_while_inputs_are_still_made_and_few_are_in_memory(photos, monkeypatch):
    """An endless input: the first answer comes, never more than a few pictures are open, and
    stopping stops."""
    asked, open_now, most, lock = 0, 0, 0, threading.Lock()
    true_open = predictor.decode

    def counting(*args):
        nonlocal open_now, most
        with lock:
            open_now += 1
            most = max(most, open_now)
        return true_open(*args)

    def engine(image: np.ndarray) -> Outputs:
        nonlocal open_now
        with lock:
            open_now -= 1
        return {"probabilities": expected(image[0])[None]}

    def endless():
        nonlocal asked
        for asked in itertools.count(1):
            yield photos / ("1_green.png" if asked % 2 else "2_blue.png")

    monkeypatch.setattr(predictor, "decode", counting)
    engine.name = engine.version = "test"
    answers = Predictor(engine, CLASSES, Preprocessing()).predict(endless())
    assert next(answers).label == "green"
    assert asked <= 8
    assert [p.label for p in itertools.islice(answers, 40)] == ["blue", "green"] * 20
    assert asked <= 41 + 8
    assert 1 <= most <= 8
    answers.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_a_slow_first_picture_keeps_its_place(model, photos, monkeypatch):
    later = threading.Event()
    true_open = predictor.decode

    def slow(source, *args):
        if "0_red" in source:
            assert later.wait(10)
        else:
            later.set()
        return true_open(source, *args)

    monkeypatch.setattr(predictor, "decode", slow)
    assert [p.label for p in load(model).predict(photos)] == CLASSES


def test_pictures_in_memory(model):
    ready = load(model)
    image = Image.fromarray(noise(1))
    upside_down = np.ascontiguousarray(noise(1)[::-1, ::-1])[::-1, ::-1]  # not contiguous
    for given_ in (image, noise(1), png(image), image.convert("RGBA"), upside_down):
        found = ready.predict_image(given_)
        seen = ready.preprocessing.pixels(image)
        np.testing.assert_allclose(found.probabilities, expected(seen), atol=1e-5)
        assert found.heat is None
    assert ready.predict_image(noise(1), heat=True, file="upload").heat.shape == (3, 8, 8)
    assert ready.predict_image(Image.new("LA", (3, 3))).notes == ("transparency laid on white",)
    turned = Image.fromarray(noise(1))
    turned.getexif()[0x0112] = 6
    seen = ready.preprocessing.pixels(Image.fromarray(noise(1).swapaxes(0, 1)[:, ::-1]))
    np.testing.assert_allclose(ready.predict_image(turned).probabilities, expected(seen), atol=1e-5)
    for wrong in (noise(1).astype(np.float32), noise(1)[:, :, :2], noise(1)[:0]):
        with pytest.raises(
            ValueError, match=r"this network takes \(height, width, 3\) of type uint8"
        ):
            ready.predict_image(wrong)
    with pytest.raises(BadImage, match="not readable"):
        ready.predict_image(b"no picture")


@pytest.mark.parametrize("probabilities", [[[0.5, 0.5]], [[np.nan, 0.5, 0.5]], [0.2, 0.3, 0.5]])
def test_probabilities_that_are_none_are_a_reason(photos, probabilities):
    """Not a number would else be the most probable class."""

    def engine(image: np.ndarray) -> Outputs:
        return {"probabilities": np.array(probabilities, np.float32)}

    engine.name = engine.version = "test"
    found = list(Predictor(engine, CLASSES, Preprocessing()).predict(photos))
    assert all(p.error and "probabilities" in p.error for p in found)
    assert len(found) == 3


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_an_engine_that_fails_is_a_reason_too(model, photos, name):
    gray = Predictor(
        make_engine(name, model.read_bytes()),
        CLASSES,
        Preprocessing(channels=1, mean=(0.5,), std=(0.5,)),
    )
    assert [bool(p.error) for p in gray.predict(photos)] == [True] * 3


# --- proof


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_golden_images_prove_a_file(model, name):
    proof = prove(load(model, name), read_onnx(model))
    assert proof.ok
    assert (proof.images, proof.agreeing, proof.limit) == (4, 4, 0.02)
    assert proof.difference < 1e-5
    assert proof.engine.startswith(name)


@pytest.mark.parametrize(("shift", "ok"), [(0.01, True), (0.03, False), (float("nan"), False)])
def test_answers_beyond_the_limit_are_no_proof(model, shift, ok):
    file = read_onnx(model)

    def engine(image: np.ndarray) -> Outputs:
        found = expected(image[0])[None]
        moved = np.float32([[shift, -shift, 0]]) * (image[0, 0, 0, 0] == noise(2)[0, 0, 0])
        return {"probabilities": found + moved}

    engine.name = engine.version = "test"
    proof = prove(engine, file)
    assert proof.ok is ok
    assert np.isclose(proof.difference, shift, equal_nan=True)
    assert not prove(engine, onnxfile.OnnxFile(file.path, file.metadata | {"golden": []})).ok


# --- what must not happen

NO_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "onnx", "pyarrow", "openvino"):
            raise SystemExit(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
import resnets.runtime, resnets.runtime.proof, resnets.runtime.writers
assert "onnxruntime" not in sys.modules
ready = resnets.runtime.load(sys.argv[1])
print([p.label for p in ready.predict(sys.argv[2])])
"""

SOCKETS = """
import os, socket, sys
def refuse(*args, **kwargs):
    with open("attempts.txt", "a") as file:
        file.write(repr(args[:2]) + chr(10))
    raise OSError("refused by the test")
socket.getaddrinfo = socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
if sys.argv[1] == "bare":
    import openvino
else:
    import resnets.runtime
    print([p.label for p in resnets.runtime.load(sys.argv[1], engine="openvino").predict(sys.argv[2])])
    import openvino.tools.ovc, openvino.tools.ovc.telemetry_utils as telemetry
    telemetry.send_conversion_result("success")
    assert "torch" not in sys.modules
"""


MAKER = """
import sys, time
if sys.argv[1] == "bare":
    import onnxruntime
else:
    import resnets
    resnets.load(sys.argv[1]).predict_image(sys.argv[2])
time.sleep(1)
"""


def python(code: str, *arguments: object, folder: Path) -> str:
    """Runs code in a process that knows nothing of continuous integration, with an empty home
    folder."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("CI", "TF_BUILD", "JENKINS_URL", "ORT_DISABLE_TELEMETRY")
    }
    environment |= {"HOME": str(folder), "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_prediction_imports_neither_torch_nor_onnx(model, photos, tmp_path):
    assert python(NO_TORCH, model, photos, folder=tmp_path).strip() == str(CLASSES)


@pytest.mark.skipif("openvino" not in available_engines(), reason="openvino is not installed")
def test_openvino_is_kept_from_the_network(model, photos, tmp_path):
    ours, bare = tmp_path / "ours", tmp_path / "bare"
    ours.mkdir()
    bare.mkdir()
    assert str(CLASSES) in python(SOCKETS, model, photos, folder=ours)
    # no attempt, and no consent or client number in the home folder either
    assert list(ours.iterdir()) == []
    if sys.platform == "linux":  # and this test could fail: the bare import does try
        python(SOCKETS, "bare", folder=bare)
        assert "google-analytics" in (bare / "attempts.txt").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="another home folder")
def test_onnx_runtime_collects_nothing_for_its_maker(tmp_path):
    """Its own sockets are out of Python's sight; what it writes into an empty home folder is not."""
    onnx = Path(__file__).parent / "data" / "format1" / "tiny.onnx"
    left = {}
    for name, words in (("bare", ["bare"]), ("ours", [onnx, onnx.with_name("picture.png")])):
        home = tmp_path / name
        home.mkdir()
        python(MAKER, *words, folder=home)
        left[name] = [str(path) for path in home.rglob("*") if path.is_file()]
    assert left["ours"] == []
    if not left["bare"]:
        pytest.skip("this version of ONNX Runtime collects nothing by itself")


def test_outputs_are_taken_and_looked_at_as_the_kind_says(photos):
    """Unknown ones are left alone, maps only where they are asked for; none may be infinite."""
    given: dict[str, np.ndarray] = {}

    def engine(image: np.ndarray) -> Outputs:
        return given

    engine.name = engine.version = "test"
    ready = Predictor(engine, CLASSES, Preprocessing())
    assert ready.kind is CLASS_KIND
    given |= {"probabilities": expected(noise(0))[None], "other": np.zeros((7, 7))}
    given["heat"] = np.full((1, 3, 2, 2), np.inf, np.float32)
    assert ready.predict_image(noise(0)).heat is None
    with pytest.raises(EngineError, match="gave heat that are not finite numbers"):
        ready.predict_image(noise(0), heat=True)
    given["heat"] = np.zeros((1, 2, 2, 2), np.float32)
    with pytest.raises(EngineError, match=r"gave heat of shape \(1, 2, 2, 2\) for one image and 3"):
        ready.predict_image(noise(0), heat=True)
    given["heat"] = np.zeros((1, 3, 2, 2), np.float32)
    assert ready.predict_image(noise(0), heat=True).heat.shape == (3, 2, 2)
    del given["probabilities"]
    with pytest.raises(EngineError, match="the network gave no probabilities"):
        ready.predict_image(noise(0))


@pytest.mark.parametrize("name", available_engines())
def test_an_engine_for_one_size_takes_others_too(name):
    """It is the graph that is opened a second time, and only where another size comes."""
    path = Path(__file__).parent / "data" / "format1" / "tiny.onnx"
    predictor = load(path, name)
    file = read_onnx(path)
    rng = np.random.default_rng(0)
    framed = rng.integers(0, 256, file.framed_shape, np.uint8)
    whole = rng.integers(0, 256, (2, 37, 53, 3), np.uint8)
    free = make_engine(name, path, 0, file.kind)
    predictor.engine(framed)
    assert predictor.engine._any is None
    for images in (framed, whole, np.concatenate([framed] * 3)):
        found, expected = predictor.engine(images), free(images)
        given = file.kind.light.outputs if name == "openvino" else file.kind.outputs
        assert list(found) == [output for output in expected if output in given]
        for output, array in found.items():
            np.testing.assert_allclose(array, expected[output], atol=1e-5)
    assert predictor.engine._any is not None
