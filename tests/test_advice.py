"""What a report says to do next follows from what was measured."""

import numpy as np
import pytest

from resnets.evaluation.accuracy import measure
from resnets.evaluation.advice import MOST, Background, next_steps
from resnets.evaluation.forecast import Growth
from resnets.evaluation.metrics import Estimate, wilson

NAMES = ("ant", "bee", "cat", "dog")


def metrics_of(counts):
    """Of a confusion matrix, (k, k)."""
    counts = np.array(counts)
    labels, said = [], []
    for (true, predicted), count in np.ndenumerate(counts):
        labels += [true] * count
        said += [predicted] * count
    probabilities = np.full((len(labels), len(counts)), 0.1 / (len(counts) - 1))
    probabilities[np.arange(len(labels)), said] = 0.9
    return measure(probabilities, np.array(labels), NAMES[: len(counts)])


GOOD = metrics_of(np.diag([50, 50, 50, 50]))


def rows(values, val=None, train=None):
    """A row a validation."""
    val, train = val or [1.0] * len(values), train or [1.0] * len(values)
    return [
        {"step": 10 * (n + 1), "epoch": n + 1.0, "val_accuracy": value, "val_accuracy_ema": value - 0.01, "val_loss": val[n], "train_loss": train[n]}
        for n, value in enumerate(values)
    ]  # fmt: skip


def test_nothing_wrong_is_said_too():
    (step,) = next_steps(GOOD, Background("accuracy"), [])
    assert "Nothing stands out" in step


def test_a_rising_curve_asks_for_more_time_and_a_flat_one_does_not():
    rising = Background("accuracy", rows([0.5, 0.6, 0.7, 0.75, 0.8, 0.85]))
    assert "still rising" in next_steps(GOOD, rising, [])[0]
    assert "10.0 points" in next_steps(GOOD, rising, [])[0]
    flat = Background("accuracy", rows([0.8, 0.84, 0.85, 0.85, 0.845, 0.852]))
    assert "rising" not in " ".join(next_steps(GOOD, flat, []))


def test_a_planted_overfit_is_recognised():
    learnt = Background(
        "accuracy",
        rows(
            [0.7, 0.8, 0.8, 0.79, 0.78],
            val=[0.9, 0.6, 0.7, 0.9, 1.1],
            train=[0.9, 0.5, 0.3, 0.1, 0.02],
        ),
    )
    (step,) = next_steps(GOOD, learnt, [])
    assert "by heart: after epoch 2" in step


def test_a_planted_collapse_comes_before_everything_else():
    collapse = "the validation accuracy fell"
    found = next_steps(
        metrics_of([[0, 50], [0, 50]]),
        Background("accuracy", rows([0.5, 0.6, 0.7, 0.8]), suspects=3),
        [collapse],
    )
    assert found[0] == collapse
    assert not any("rising" in step for step in found)


def test_the_pair_and_the_class_that_need_a_look_are_named():
    counts = np.diag([45, 50, 50, 25])
    counts[3, 2], counts[2, 3], counts[0, 1] = 22, 8, 5
    found = next_steps(metrics_of(counts), Background("accuracy", counts={"dog": 31}), [])
    assert found[0].startswith("30 of 35 mistakes are between cat and dog")
    assert found[1].startswith("dog has the lowest recall: 53 %")
    assert "31 to train on so far" in found[1]


def test_a_probe_is_not_a_curve():
    probe = {"step": 0, "epoch": 0.0, "val_accuracy": 0.2, "val_accuracy_ema": 0.2}
    known = Background("accuracy", [probe, *rows([0.9, 0.9, 0.9])])
    assert "rising" not in " ".join(next_steps(GOOD, known, []))


def test_weights_that_could_not_be_downloaded_come_before_more_time():
    known = Background("accuracy", rows([0.5, 0.6, 0.7]), offline=True)
    first, second = next_steps(GOOD, known, [])
    assert "could not be downloaded" in first
    assert "--weights FILE" in first
    assert "still rising" in second


@pytest.mark.parametrize("suspects", [0, 1, 1234])
def test_suspects_are_counted(suspects):
    found = " ".join(next_steps(GOOD, Background("accuracy", suspects=suspects), []))
    assert (f"Suspect labels: {suspects:,}." in found) == bool(suspects)


def test_no_more_than_a_handful():
    counts = np.diag([45, 50, 50, 25])
    counts[3, 2] = 30
    known = Background("accuracy", rows([0.5, 0.6, 0.7]), {"dog": 3}, suspects=9)
    assert len(next_steps(metrics_of(counts), known, ["a", "b", "c"])) <= MOST


@pytest.mark.parametrize(("gain", "told"), [(0.03, True), (0.004, False)])
def test_more_images_are_asked_for_where_they_would_help(gain, told):
    growth = Growth("accuracy", (100,), (wilson(90, 100),), Estimate(0.9 + gain, 0.8, 1, 100))
    steps = next_steps(GOOD, Background("accuracy", growth=growth), [])
    assert ("Collect more images" in steps[0]) == told


@pytest.mark.parametrize("growth", [None, 0.03])
def test_images_that_were_left_out_come_before_images_that_are_not_there(growth):
    """Nobody is to collect what lies in the folder already."""
    if growth:
        growth = Growth("accuracy", (100,), (wilson(90, 100),), Estimate(0.9 + growth, 0.8, 1, 100))
    steps = next_steps(GOOD, Background("accuracy", growth=growth, omitted=1461), [])
    assert steps[0].startswith("Images left out for want of time: 1,461. A longer time limit")
    assert ("With twice as many" in steps[0]) == bool(growth)
    assert "Collect" not in " ".join(steps)
