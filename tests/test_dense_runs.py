"""Runs of tasks that say something of every place: from the data to the prediction of the file, the
same after a stop, and on the backbone of a classifier."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="training install")

import resnets  # noqa: E402
from resnets.modelfile import load_model, read_model  # noqa: E402
from resnets.run.folder import RunFolder  # noqa: E402

SMALL = "resnet18 depths=1-1 widths=8-16"
COLORS = {"red": (220, 40, 40), "blue": (40, 60, 220)}


def scene(rng):
    """A grey image of 64 x 48 with one or two rectangles; their boxes, and the mask."""
    pixels = rng.integers(90, 140, (48, 64, 3)).astype(np.uint8)
    mask, things = np.zeros((48, 64), np.uint8), []
    for side in range(int(rng.integers(1, 3))):
        left, top = int(rng.integers(2, 14)) + 32 * side, int(rng.integers(2, 24))
        right, bottom = left + int(rng.integers(10, 17)), top + int(rng.integers(10, 20))
        label = str(rng.choice(list(COLORS)))
        pixels[top:bottom, left:right] = COLORS[label]
        mask[top:bottom, left:right] = 1 + list(COLORS).index(label)
        things.append((left, top, right, bottom, label))
    return pixels, things, mask


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """One set of scenes as a table of boxes, and one as masks, in parts of 16 and 8."""
    root = tmp_path_factory.mktemp("scenes")
    rng, rows = np.random.default_rng(0), []
    for number in range(24):
        pixels, things, mask = scene(rng)
        part = "train" if number < 16 else "val"
        for folder in (root / "boxes", root / "mask" / part / "images"):
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{number:02}.png")
        masks = root / "mask" / part / "masks"
        masks.mkdir(exist_ok=True)
        Image.fromarray(mask).save(masks / f"{number:02}.png")
        rows += [(f"{number:02}.png", *box, label, part) for *box, label in things]
    with (root / "boxes" / "boxes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file_name", "xmin", "ymin", "xmax", "ymax", "label", "split"))
        table.writerows(rows)
    (root / "mask" / "classes.txt").write_text("ground\nred\nblue\n")
    return root


def train(data, kind, output, **more):
    settings = {"weights": "none", "size": 64, "epochs": 4, "quiet": True, "batch_size": 4, **more}
    return resnets.train(data / kind, SMALL, output=output, **settings)


@pytest.mark.parametrize("kind", ["boxes", "mask"])
def test_a_run_ends_in_a_file_that_says_what_the_model_says(data, kind, tmp_path):
    run = train(data, kind, tmp_path / "run")
    assert run.model.task.kind.name == kind
    assert run.model.preprocessing.size == (48, 64)
    assert run.metrics.n == 8
    assert run.proven.agreeing == run.proven.compared
    report = (tmp_path / "run" / "report.html").read_text()
    assert report.count("data:image/jpeg") >= 2
    command = [sys.executable, "-c", NO_TORCH, str(run.proven.path), str(data / kind)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    main = next(iter(run.metrics.numbers))
    # whole images are scaled by the graph, here not at all
    assert found["metrics"][main] == pytest.approx(run.metrics.numbers[main].value, abs=0.02)


NO_TORCH = """
import sys
sys.modules["torch"] = None
from resnets.cli import main
sys.argv = ["resnets", "val", *sys.argv[1:], "--split", "val", "--json"]
main()
"""


@pytest.mark.parametrize("kind", ["boxes", "mask"])
def test_a_run_that_was_stopped_ends_in_the_same_bits(data, kind, tmp_path):
    whole = train(data, kind, tmp_path / "whole")
    rows = []

    def stop(row):
        rows.append(row)
        return len(rows) == 3

    train(data, kind, tmp_path / "stopped", callbacks=[stop])
    assert RunFolder(tmp_path / "stopped").read_summary()["stopped"]
    again = resnets.run.resume(tmp_path / "stopped", quiet=True)
    first, _ = read_model(RunFolder(tmp_path / "whole").best)
    second, _ = read_model(RunFolder(tmp_path / "stopped").best)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert again.metrics.to_dict() == whole.metrics.to_dict()


@pytest.mark.parametrize("kind", ["boxes", "mask"])
def test_the_backbone_of_a_classifier_can_be_used(data, kind, tmp_path):
    """`--weights classifier.safetensors`: what fits is loaded, and its crop is not taken over."""
    folder = tmp_path / "classes"
    for number in range(16):
        label = ("red", "blue")[number % 2]
        (folder / label).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 40, (32, 32, 3), np.uint8)
        pixels = noise + np.array(COLORS[label], np.uint8) // 2
        Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{number}.png")
    settings = {"weights": "none", "size": 32, "epochs": 1, "quiet": True}
    classifier = resnets.train(folder, SMALL, output=tmp_path / "classifier", **settings)
    weights = str(RunFolder(tmp_path / "classifier").best)
    run = train(data, kind, tmp_path / "run", weights=weights, epochs=0.25, lr=1e-6)
    assert run.model.preprocessing.fit == "pad"
    mine = run.model.task.backbone(run.model.net).state_dict()
    theirs = load_model(weights).net.state_dict()
    assert classifier.metrics.n
    torch.testing.assert_close(mine["conv1.weight"], theirs["conv1.weight"], atol=1e-4, rtol=1e-3)


def test_other_networks_than_ours_are_refused_with_a_reason(data, tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten())
    with pytest.raises(ValueError, match="head of its own on the stages of a network"):
        resnets.train(data / "boxes", net, output=tmp_path / "run", quiet=True)
    with pytest.raises(ValueError, match="would cut away what is to be found"):
        train(data, "mask", tmp_path / "run", fit="crop")
