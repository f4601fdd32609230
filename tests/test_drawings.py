"""What `resnets predict` writes of kinds with several rows an image: tables that go on after a
crash, JSON objects, drawn images and masks."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="training install")

from resnets.export import export_model  # noqa: E402
from resnets.kinds.boxes import BOXES, BoxPrediction  # noqa: E402
from resnets.kinds.classes import ClassPrediction  # noqa: E402
from resnets.kinds.labels import LabelPrediction  # noqa: E402
from resnets.kinds.mask import MaskPrediction  # noqa: E402
from resnets.modelfile import Model, describe_network  # noqa: E402
from resnets.models import Network  # noqa: E402
from resnets.preprocessing import Preprocessing  # noqa: E402
from resnets.runtime.rows import Columns, is_last  # noqa: E402
from resnets.tasks import TASKS, make_task  # noqa: E402

NAMES = ("cell", "plate", "rest")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three images, one of them turned by EXIF, and a file that is none."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, size in (("a", (90, 60)), ("b", (50, 80)), ("c", (64, 64))):
        small = Image.fromarray(rng.integers(0, 255, (7, 9, 3), np.uint8))
        exif = Image.Exif()
        if name == "b":
            exif[0x0112] = 6
        small.resize(size, Image.Resampling.BICUBIC).save(root / f"{name}.jpg", exif=exif)
    (root / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def files(tmp_path_factory, folder):
    """A small exported network of each kind that says where."""
    root, made = tmp_path_factory.mktemp("models"), {}
    for name in ("boxes", "mask"):
        torch.manual_seed(0)
        network = Network.parse("resnet18 depths=1-1 widths=8-8", 3, 3)
        task = make_task({"name": name, **({"threshold": 0.0} if name == "boxes" else {})})
        net = task.build(network, 3)
        description = describe_network(network, net, 3, 3)
        preprocessing = Preprocessing((48, 64), (48, 64), fit="pad")
        model = Model(net, NAMES, preprocessing, description, task)
        made[name] = root / f"{name}.onnx"
        export_model(model, made[name], [Image.open(folder / "a.jpg")])
    return made


def predict(*arguments, code=0):
    command = [sys.executable, "-m", "resnets", "predict", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stderr


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", ["boxes", "mask"])
def test_a_table_that_was_cut_off_is_completed_and_nothing_comes_twice(
    kind, files, folder, tmp_path
):
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    predict(files[kind], folder, "-o", whole)
    predict(files[kind], folder, "-o", cut)
    rows = table(whole)
    assert [row["file"][-5:] for row in rows if row["error"]] == ["n.png"]
    by_file = {name: [r for r in rows if r["file"].endswith(name)] for name in ("a.jpg", "b.jpg")}
    for own in by_file.values():
        assert [int(row["number"]) for row in own] == list(range(1, int(own[0]["of"]) + 1))
    lines = cut.read_bytes().splitlines(keepends=True)
    last = max(place for place, line in enumerate(lines) if b"b.jpg" in line)
    cut.write_bytes(b"".join(lines[:last]))  # in the middle of b
    said = predict(files[kind], folder, "-o", cut)
    assert "1 files are predicted already" in said
    key = [(row["file"], row["number"], row["label"]) for row in table(cut)]
    assert sorted(key) == sorted((row["file"], row["number"], row["label"]) for row in rows)


@pytest.mark.parametrize("kind", ["boxes", "mask"])
def test_an_image_is_one_json_object_and_drawn_whole(kind, files, folder, tmp_path):
    drawn = tmp_path / "drawn"
    masks = ("--masks", tmp_path / "masks") if kind == "mask" else ()
    predict(files[kind], folder, "-o", tmp_path / "all.jsonl", "--draw", drawn, *masks)
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    key = {"boxes": "boxes", "mask": "shares"}[kind]
    assert all(set(row) == {"file", key, "error", "notes"} for row in rows)
    sound = [row for row in rows if row["error"] is None]
    if kind == "mask":
        assert all(sum(row[key].values()) == pytest.approx(1, abs=1e-5) for row in sound)
    else:
        assert all(set(thing) == {"label", "score", "box"} for row in sound for thing in row[key])
    sizes = {"a": (90, 60), "b": (80, 50), "c": (64, 64)}  # b upright
    names = {f"{name}.jpg.drawn.jpg": size for name, size in sizes.items()}
    assert {one.name: Image.open(one).size for one in drawn.iterdir()} == names
    for one in (tmp_path / "masks").iterdir() if masks else ():
        with Image.open(one) as image:
            assert image.mode == "P"
            assert image.size == sizes[one.name[0]]
            assert set(np.unique(np.asarray(image))) <= {0, 1, 2}


def test_drawing_again_overwrites_nothing(files, folder, tmp_path):
    for _ in range(2):
        predict(files["boxes"], folder / "a.jpg", "--draw", tmp_path / "drawn")
    names = sorted(one.name for one in (tmp_path / "drawn").iterdir())
    assert names == ["a.jpg.drawn.2.jpg", "a.jpg.drawn.jpg"]


def test_masks_of_a_network_without_them_are_refused_before_any_work(files, folder, tmp_path):
    said = predict(files["boxes"], folder, "--masks", tmp_path / "masks", code=2)
    assert "which are not for each pixel; leave out --masks" in said
    file = tmp_path / "file"
    file.write_text("")
    said = predict(files["boxes"], folder, "--draw", file, code=2)
    assert "a file, not a folder" in said


def test_every_kind_is_drawn_and_leaves_its_image_alone():
    image = Image.new("RGB", (120, 80), (10, 20, 30))
    before = np.asarray(image).copy()
    probabilities = np.array([0.7, 0.2, 0.1], np.float32)
    made = [
        ClassPrediction("a", NAMES, probabilities),
        LabelPrediction("a", NAMES, probabilities, thresholds=np.full(3, 0.5, np.float32)),
        BoxPrediction(
            "a",
            NAMES,
            boxes=np.array([[20, 30, 70, 60]], np.float32),
            labels=np.array([1]),
            scores=np.array([0.9], np.float32),
        ),
        MaskPrediction("a", NAMES, mask=np.ones((80, 120), np.uint8)),
    ]
    for prediction in made:
        drawn = prediction.drawn(image)
        assert drawn.size == image.size
        assert (np.asarray(drawn) != before).any()
        np.testing.assert_array_equal(np.asarray(image), before)


def test_a_row_is_the_last_one_of_its_image_where_its_number_says_so():
    assert is_last({"file": "a", "label": "b"})  # of kinds with one row an image
    assert is_last({"number": "3", "of": "3"})
    assert is_last({"number": 0, "of": 0})
    assert not is_last({"number": "2", "of": "3"})


def test_columns_of_objects_are_those_of_the_kind():
    assert list(Columns.of(BOXES, objects=True).types) == ["file", "boxes", "error", "notes"]
    assert "left" in Columns.of(BOXES).types
    for name in TASKS:
        kind = TASKS[name].kind
        empty = kind.prediction("a.jpg", NAMES, error="no such file")
        for objects in (False, True):
            columns = Columns.of(kind, objects=objects)
            (row,) = columns.rows(empty)
            assert set(row) == set(columns.types)
            assert row["error"] == "no such file"
