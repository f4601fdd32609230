"""NAME-int8.onnx and NAME-bf16.onnx of boxes, masks and clips: made of a run, verified in each
engine, and judged by the main number of their task."""

import csv

import numpy as np
import pytest
from forms_data import make_up_speeds
from PIL import Image
from test_cli import only_json, refused, resnets
from test_clips import moving
from test_dense_runs import scene

import resnets as library
from resnets import load
from resnets.evaluation import EVALUATORS
from resnets.export import forms
from resnets.kinds import KINDS
from resnets.runtime import engines
from resnets.runtime.engines import available_engines
from resnets.runtime.onnxfile import read_onnx
from resnets.runtime.proof import prove

pytestmark = pytest.mark.skipif("openvino" not in available_engines(), reason="openvino")
SMALL = "resnet18 depths=1-1 widths=8-16"
PARTS = {"train": 24, "val": 50, "test": 12}  # of which the second sets the ranges of int8
TASKS = ("boxes", "mask", "clips")
JUDGED = {"int8": 12, "bf16": 62}  # no image is spent on ranges in bfloat16
WORDS = {"int8": "int8", "bf16": "bfloat16"}


def write_boxes(root, rng):
    """Rectangles of two colours, with a table of their boxes."""
    rows = []
    for part, count in PARTS.items():
        for number in range(count):
            pixels, things, _ = scene(rng)
            Image.fromarray(pixels).save(root / f"{part}{number:02}.png")
            rows += [(f"{part}{number:02}.png", *box, label, part) for *box, label in things]
    with (root / "boxes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file_name", "xmin", "ymin", "xmax", "ymax", "label", "split"))
        table.writerows(rows)


def write_masks(root, rng):
    """The same with masks."""
    (root / "classes.txt").write_text("ground\nred\nblue\n")
    for part, count in PARTS.items():
        for folder in ("images", "masks"):
            (root / part / folder).mkdir(parents=True)
        for number in range(count):
            pixels, _, mask = scene(rng)
            Image.fromarray(pixels).save(root / part / "images" / f"{number:02}.png")
            Image.fromarray(mask).save(root / part / "masks" / f"{number:02}.png")


def write_clips(root, rng):
    """Patterns that move to the left or to the right."""
    for part, count in PARTS.items():
        for label, speed in (("left", 3), ("right", -3)):
            (root / part / label).mkdir(parents=True)
            for number in range(count // 2):
                images = moving(4, speed, int(rng.integers(1 << 30)))
                path = root / part / label / f"{number:02}.gif"
                images[0].save(path, save_all=True, append_images=images[1:], duration=100)


WRITE = {"boxes": write_boxes, "mask": write_masks, "clips": write_clips}
NETWORKS = {"boxes": SMALL, "mask": SMALL, "clips": f"{SMALL} time=motion"}
SETTINGS = {
    "boxes": {"size": 64, "epochs": 12},
    "mask": {"size": 64, "epochs": 8},
    "clips": {"size": 32, "epochs": 16, "frames": 4, "lr": 0.05},
}


@pytest.fixture(scope="module", autouse=True)
def has_bfloat16():
    """Runs where the processor lacks it too: OpenVINO imitates it, or computes in float32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "has_bfloat16", lambda core: True)
        make_up_speeds(patch, 2)
        yield


@pytest.fixture(scope="module", params=TASKS)
def run(request, tmp_path_factory):
    """A small network that was trained for a task."""
    task, root = request.param, tmp_path_factory.mktemp("forms")
    (root / "data").mkdir()
    WRITE[task](root / "data", np.random.default_rng(0))
    settings = {"weights": "none", "batch_size": 4, "quiet": True, **SETTINGS[task]}
    return library.train(root / "data", NETWORKS[task], output=root / "run", **settings)


def export(run, word, tmp_path, *options):
    """The words of an export, and the file that it is about."""
    words = ("export", run.folder, "-o", tmp_path / "a.onnx", "--precision", word, *options)
    return words, tmp_path / f"a-{word}.onnx"


@pytest.mark.parametrize("word", WORDS)
def test_a_file_is_verified_and_judged_by_the_main_number(run, word, tmp_path):
    words, path = export(run, word, tmp_path, "--max-drop", 40, "--json")
    kind, main = run.model.task.kind, EVALUATORS[run.model.task.kind.name].main
    done = resnets(*words)
    assert done.code == 0, done.err
    values = only_json(done)[WORDS[word]]
    assert values["verdict"] == "kept"
    judged = {name: one for name, one in values["engines"].items() if "difference" in one}
    assert list(judged) == engines.engines_for(WORDS[word])
    for one in judged.values():
        assert (one["difference"]["number"], one["difference"]["n"]) == (main, JUDGED[word])
        assert abs(one["difference"]["difference"]) < 0.1
        assert one["float32"][main] > 0.3  # something was learnt, and may be lost
    file = read_onnx(path)
    assert file.precision == WORDS[word]
    assert file.limits == KINDS[kind.name].limits[WORDS[word]]
    for name in available_engines():
        assert prove(load(path, name), file).ok
    # as anybody uses it
    done = resnets("val", path, run.folder.parent / "data", "--split", "test", "--json")
    assert only_json(done)["metrics"][main] > 0.3


@pytest.mark.parametrize("word", WORDS)
def test_an_engine_that_is_wrong_is_found(run, word, tmp_path, monkeypatch):
    """The limits are narrow enough for outputs that are mirrored, and so of another image."""
    make = forms.make_engine

    def wrong(name, source, threads=0, kind=None, shape=None, precision="float32"):
        engine = make(name, source, threads, kind, shape, precision)
        if (name, shape[0]) == ("onnxruntime", 5):
            run = engine._run
            engine._run = lambda image: {
                key: array[..., ::-1] if array.ndim > 1 else array
                for key, array in run(image).items()
            }
        return engine

    monkeypatch.setattr(forms, "make_engine", wrong)
    words, path = export(run, word, tmp_path, "--max-drop", 40)
    first = next(iter(KINDS[run.model.task.kind.name].limits["int8"]))
    message = refused(*words, code=1)
    assert "in onnxruntime" in message
    assert "at batch 5 it differs from" in message
    assert f"in its {first} by" in message
    assert not path.exists()
