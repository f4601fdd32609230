"""Mistakes of a classifier as a report shows them: the confusion matrix and the worst images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resnets.evaluation.calibration import reliability_section
from resnets.evaluation.evaluator import Search
from resnets.evaluation.metrics import Metrics
from resnets.evaluation.sections import (
    MANY_CLASSES,
    WORST,
    Caption,
    Case,
    Figure,
    Section,
    case_section,
    class_section,
    matrix_section,
)
from resnets.kinds.prediction import UNFAMILIAR, Prediction

BAND = 6  # images a cell gets before the next cell has its turn


def choose_cases(
    probabilities: np.ndarray,
    labels: np.ndarray,
    per_cell: int = 24,
    worst: int = 60,
    most: int = 1200,
) -> np.ndarray:
    """Positions of the images worth keeping in the page.

    First the mistakes with the highest loss. Then every cell of the confusion matrix gets its
    images, highest loss first, a few at a time, so that no cell starves when there are many:
    mistakes before right predictions, the fullest cells first.

    Args:
        probabilities: (n, k).
        labels: (n,) integers.
        per_cell: Images of one cell, at the most (more where the worst mistakes share a cell).
        worst: Mistakes taken first.
        most: Images in all.
    """
    k = probabilities.shape[1]
    predicted = probabilities.argmax(1)
    order = np.argsort(probabilities[np.arange(len(labels)), labels], kind="stable")
    cell = (np.asarray(labels, np.int64) * k + predicted)[order]
    right = (predicted == labels)[order]
    grouped = np.argsort(cell, kind="stable")
    _, start, size = np.unique(cell[grouped], return_index=True, return_counts=True)
    place, fill = np.empty((2, len(cell)), np.int64)
    place[grouped] = np.arange(len(cell)) - np.repeat(start, size)  # of each image within its cell
    fill[grouped] = np.repeat(size, size)
    first = np.flatnonzero(~right)[:worst]
    turn = np.lexsort((place, cell, -fill, right, place // BAND))
    turn = turn[place[turn] < per_cell]
    return order[np.concatenate([first, turn[~np.isin(turn, first)]])[:most]]


def sections(metrics: Metrics, cases: Sequence[Case], unit: str = "images") -> list[Section]:
    """The confusion matrix, the classes, the worst mistakes, and the calibration.

    Args:
        metrics: With a confusion matrix.
        cases: Of the measurement.
        unit: What was measured.

    Raises:
        ValueError: A case of a class that was not measured.
    """
    known = set(metrics.classes)
    for case in cases:
        if unknown := {case.truth.label, case.prediction.label} - known:
            raise ValueError(
                f"report: cases of class {min(unknown)!r}, which is none of the {len(known)}"
                " classes measured"
            )
    figures = [_figure(case) for case in sorted(cases, key=_of_truth)]
    wrong = [one for one in figures if one.case.truth.label != one.case.prediction.label]
    shown = {id(one) for one in wrong[:WORST]}
    others = tuple(one for one in figures if id(one) not in shown)
    matrix = matrix_section(metrics, hidden=others)
    mistakes = _worst(metrics, wrong[:WORST], unit)
    return [matrix, _bars(metrics, unit), mistakes, reliability_section(metrics, unit)]


def baseline(metrics: Metrics) -> str:
    """What a constant prediction reaches, to be held against the accuracy."""
    support = metrics.detail["confusion"].sum(1)
    share, name = support.max() / support.sum(), metrics.classes[int(support.argmax())]
    constant = f"always predicting {name}"
    if metrics.numbers["accuracy"].low <= share:
        return f"not clearly better than {constant}, which gives {100 * share:.1f} %"
    return f"{constant} gives {100 * share:.1f} %"


def _of_truth(case: Case) -> float:
    """The probability of the true class."""
    return float(case.prediction.probabilities[case.truth.index])


def _figure(case: Case) -> Figure:
    truth, prediction = case.truth, case.prediction
    right = truth.label == prediction.label
    role = "said" if right else "said wrong"
    captions = [Caption(role, f"predicted {prediction.label}", prediction.probability)]
    if not right:
        captions.append(Caption("true", f"true {truth.label}", _of_truth(case)))
    heat = f"Class activation map of {prediction.label} in {prediction.file}"
    return Figure(case, tuple(captions), heat, f"{truth.index}-{prediction.index}")


def _bars(metrics: Metrics, unit: str) -> Section:
    hint = (
        f"Recall: the fraction of the {unit} of a class that are predicted as that class."
        f" Precision: the fraction of the {unit} predicted as a class that belong to it. With 95 %"
        " confidence intervals"
    )
    hint += "; the lowest F1 comes first." if len(metrics.classes) > MANY_CLASSES else "."
    return class_section(metrics, "Classes", hint, ("recall", "precision"))


def _worst(metrics: Metrics, figures: Sequence[Figure], unit: str) -> Section:
    counts = metrics.detail["confusion"]
    mistakes = int(counts.sum() - counts.diagonal().sum())
    order = "the lowest probability of the true class first."
    if any(figure.case.heat for figure in figures):
        order += (
            " Beside each image, the class activation map: bright where the network saw evidence"
            " for the class that it predicted."
        )
    hint = order[0].upper() + order[1:]
    if not mistakes:
        hint = f"None in {metrics.n} {unit}."
    elif not figures:
        hint = f"{mistakes} mistakes; none is shown on this page."
    elif len(figures) < mistakes:
        hint = f"{len(figures)} of {mistakes} mistakes, {order}"
    elif mistakes > 1:
        hint = f"All {mistakes} mistakes, {order}"
    return case_section("Worst mistakes", hint, figures)


def _looks(case: Case) -> str:
    return f"looks like {case.prediction.label}"


def suspect_section(cases: Sequence[Case], count: int) -> Section:
    """Images that look like another class than their label says.

    Args:
        cases: Those to show, the most suspicious first.
        count: All of them.
    """
    figures = [
        Figure(
            case,
            (
                Caption(
                    "said wrong", f"looks like {case.prediction.label}", case.prediction.probability
                ),
                Caption("true", f"labelled {case.truth.label}", _of_truth(case)),
            ),
        )
        for case in cases
    ]
    shown = f"{len(figures)} of {count}" if len(figures) < count else f"All {count}"
    hint = (
        f"{shown} images whose features look like another class to a classifier that was fitted to"
        " other images only, the least probable label first. Some are mistakes of the network, some"
        " of the labels: look at them; suspects.csv has all."
    )
    return case_section("Suspect labels", hint, figures)


def strange_section(cases: Sequence[Case], count: int) -> Section:
    """The images that are least like those of training.

    Args:
        cases: Those to show, the strangest first.
        count: All images that were measured.
    """
    figures = [
        Figure(
            case,
            (
                Caption("said", "familiar", case.prediction.familiar),
                Caption("true", f"labelled {case.truth.label}"),
            ),
        )
        for case in cases
    ]
    hint = (
        f"{len(figures)} of {count} measured images, the least familiar first. The share is that of"
        " the validation images that are at least as unlike the training images; below"
        f" {100 * UNFAMILIAR:.0f} %, resnets predict --unknown says \N{LEFT DOUBLE QUOTATION MARK}"
        "none of these\N{RIGHT DOUBLE QUOTATION MARK}. Are they what the classes mean?"
    )
    return case_section("Least familiar images", hint, figures)


def suspicion(truth: Prediction, prediction: Prediction) -> float | None:
    """How improbable the label is, where another one is more probable."""
    if prediction.index == truth.index:
        return None
    return 1 - float(prediction.probabilities[truth.index])


def strangeness(truth: Prediction, prediction: Prediction) -> float | None:
    """How unlike the training images an image is."""
    return None if prediction.familiar is None else 1 - float(prediction.familiar)


SUSPICION = Search(suspicion, suspect_section)
STRANGENESS = Search(strangeness, strange_section)
