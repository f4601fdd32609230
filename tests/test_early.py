"""What ends a run before its last step, or slows it: patience, and a collapse."""

import json

import pytest

pytest.importorskip("torch", reason="training install")

import torch
from safetensors.torch import load_file

import resnets
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
