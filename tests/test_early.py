"""What ends a run before its last step, or slows it: patience, and a collapse."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="training install")

import torch
from safetensors.torch import load_file

import resnets
from resnets.evaluation.classes import ClassEvidence
from resnets.evaluation.majority import stuck
from resnets.run.steps import no_better

SMALL = {"size": 16, "weights": "none", "batch_size": 8, "quiet": True}


def rows_of(values):
    """Rows with a validation each, or None without; steps of ten."""
    return [
        {"step": 10 * (n + 1), "val_x": value, "val_x_ema": value} for n, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("values", "patience", "ends"),
    [
        ([0.5, 0.4, 0.3], 2, True),
        ([0.5, 0.4, 0.3], 3, False),
        ([0.5, 0.4, 0.6], 1, False),
        ([0.5, 0.5, 0.5], 2, True),  # as good is not better
        ([0.5, None, 0.4, None, 0.3], 2, True),
        ([0.5, 0.4, 0.3, None], 1, False),  # it is decided at a validation
        ([0.5, 0.4, 0.3], None, False),
        ([], 1, False),
    ],
)
def test_patience_counts_validations_since_the_best(values, patience, ends):
    assert bool(no_better(rows_of(values), patience, "x")) == ends


def test_averaged_weights_count_too():
    rows = rows_of([0.5, 0.4, 0.3])
    rows[2]["val_x_ema"] = 0.6
    assert not no_better(rows, 1, "x")


@pytest.fixture(scope="module")
def tired(colours, tmp_path_factory):
    """A run that gets no better and has little patience."""
    folder = tmp_path_factory.mktemp("tired") / "run"
    run = resnets.train(
        colours, "resnet20 depths=1-1-1", epochs=60, lr=0.1, patience=3, output=folder, **SMALL
    )
    return run


def test_a_run_without_patience_is_finished(tired):
    said = json.loads((tired.folder / "summary.json").read_text())
    last = load_last(tired.folder)
    assert said["stopped"] is False
    assert "no better validation in the last 3" in said["ended_early"]
    assert said["ended_early"] in (tired.folder / "report.html").read_text()
    assert last["step"] < 60 * 3
    with pytest.raises(ValueError, match="finished"):
        resnets.run.resume(tired.folder)


def load_last(folder):
    from resnets.modelfile import read_model

    return read_model(folder / "weights" / "last.safetensors")[1]["checkpoint"]


@pytest.mark.parametrize("before_the_end", [1, 4])
def test_it_ends_at_the_same_step_when_it_was_stopped_before(
    colours, tired, tmp_path, before_the_end
):
    """Also where it was stopped at the very row after which it ends."""
    rows, count = [], len((tired.folder / "results.csv").read_text().splitlines()) - 1
    again = resnets.train(
        colours, "resnet20 depths=1-1-1", epochs=60, lr=0.1, patience=3, output=tmp_path / "run",
        callbacks=[lambda row: rows.append(row) or len(rows) == count + 1 - before_the_end], **SMALL,
    )  # fmt: skip
    said = json.loads((again.folder / "summary.json").read_text())
    assert said["stopped"] is (before_the_end > 1)
    if said["stopped"]:
        again = resnets.run.resume(again.folder, quiet=True)
    first, other = (
        load_file(run.folder / "weights" / "last.safetensors") for run in (tired, again)
    )
    assert all(torch.equal(first[name], other[name]) for name in first)
    assert json.loads((again.folder / "summary.json").read_text())["ended_early"]


# --- a collapse


def evidence_of(counts):
    return [ClassEvidence(label, None) for label, count in enumerate(counts) for _ in range(count)]


@pytest.mark.parametrize(
    ("value", "counts", "expected"),
    [(0.5, (50, 50), True), (0.55, (50, 50), True), (0.7, (50, 50), False), (0.8, (80, 20), True)],
)
def test_what_the_largest_class_gives_is_nothing_learnt(value, counts, expected):
    rows = [{"val_accuracy": value, "val_accuracy_ema": 0.2}]
    assert stuck(rows, evidence_of(counts)) == expected


COLLAPSE = {
    **SMALL, "lr": 1.0, "schedule": "constant", "warmup": 0.0, "average": 0.0, "smoothing": 0.1,
    "optimizer": "sgd", "epochs": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def collapse(colours, tmp_path_factory):
    """A run whose rate is far too high at first."""
    folder = tmp_path_factory.mktemp("collapse") / "run"
    return resnets.train(colours, "resnet20 depths=1-1-1", output=folder, **COLLAPSE)


def test_a_collapse_lowers_the_rate_once_and_is_told(collapse):
    rows = list(csv.DictReader((collapse.folder / "results.csv").read_text().splitlines()))
    rates = [float(row["learning_rate"]) for row in rows]
    at = load_last(collapse.folder)["slowed"]
    assert [rate for rate, row in zip(rates, rows, strict=True) if int(row["step"]) <= at] == (
        [1.0] * rates.count(1.0)
    )
    assert sorted(set(rates)) == pytest.approx([0.1, 1.0])
    report = (collapse.folder / "report.html").read_text()
    assert f"lowered to a tenth at step {at}: start with it, --lr 0.1" in report


@pytest.mark.parametrize("after", [-1, 0, 2])
def test_a_resumed_run_lowers_it_at_the_same_step(colours, collapse, tmp_path, after):
    """Stopped before, at and after the validation that says so."""
    at, rows = load_last(collapse.folder)["slowed"], []

    def stop(row):
        rows.append(row)
        return row["step"] >= at + after

    run = resnets.train(
        colours, "resnet20 depths=1-1-1", output=tmp_path / "run", callbacks=[stop], **COLLAPSE
    )
    run = resnets.run.resume(run.folder, quiet=True)
    first, other = (
        load_file(one.folder / "weights" / "last.safetensors") for one in (collapse, run)
    )
    assert all(torch.equal(first[name], other[name]) for name in first)
    assert load_last(run.folder)["slowed"] == at


def test_a_run_that_learns_keeps_its_rate(tired):
    assert load_last(tired.folder)["slowed"] == 0


def test_a_run_that_learns_by_heart_is_told_so(tmp_path):
    """Noise has nothing to be learnt but by heart."""
    rng = np.random.default_rng(0)
    for number in range(80):
        folder = tmp_path / "noise" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    run = resnets.train(
        tmp_path / "noise", "resnet20", epochs=30, crop="none", flip="none", lr=0.05, average=0.0,
        output=tmp_path / "run", **SMALL,
    )  # fmt: skip
    assert "The network learns the images by heart" in (run.folder / "report.html").read_text()
