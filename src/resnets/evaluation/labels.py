"""Numbers of a multi-label classifier: ranking (average precision) and decisions (F1, exact
matches), each with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from resnets.evaluation.curves import chart
from resnets.evaluation.evaluator import Evaluator, Quick, Rows
from resnets.evaluation.metrics import (
    Estimate,
    Metrics,
    PerClass,
    draw_images,
    mean_of_known,
    percentile,
    resampled,
    wilson,
)
from resnets.evaluation.sections import (
    WORST,
    Caption,
    Case,
    Figure,
    Section,
    case_section,
    class_section,
)
from resnets.kinds.labels import BETWEEN
from resnets.kinds.prediction import Cell, Prediction

GRID = np.linspace(0, 1, 51)  # thresholds at which precision and recall are shown
MOST_CHARTS = 11  # labels with a chart of their own
CHUNK = 4_000_000  # numbers of a block of resamples that are in memory at a time


def average_precision(
    truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """The area below precision over recall in steps, as `sklearn.metrics.average_precision_score`
    counts it: images of equal score enter together.

    Args:
        truth: (n, k) bool.
        scores: (n, k), higher where the label is more likely.
        weights: (n,) or (resamples, n), how often each image was drawn; by default each once.

    Returns:
        (k,), or (resamples, k); NaN where a label has no positive image.
    """
    each = np.ones(len(truth)) if weights is None else np.asarray(weights, np.float64)
    drawn = np.atleast_2d(each)
    found = np.empty((len(drawn), truth.shape[1]))
    rows = max(1, CHUNK // max(1, len(truth)))
    for label in range(truth.shape[1]):
        order = np.argsort(-scores[:, label], kind="stable")
        ranked = scores[order, label]
        last = np.flatnonzero(np.append(ranked[:-1] != ranked[1:], True))  # of equal scores
        positive = truth[order, label].astype(np.float64)
        for start in range(0, len(drawn), rows):
            block = drawn[start : start + rows, order]
            hits = (block * positive).cumsum(1)[:, last]
            seen = block.cumsum(1)[:, last]
            steps = np.diff(hits, axis=1, prepend=0.0)
            with np.errstate(invalid="ignore"):
                area = (steps * hits / np.maximum(seen, 1e-12)).sum(1) / hits[:, -1]
            found[start : start + rows, label] = area
    return found[0] if each.ndim == 1 else found


class Counts(NamedTuple):
    """Images by label, (..., k) each: rightly given, given, and true."""

    right: np.ndarray
    given: np.ndarray
    true: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """(..., k) harmonic mean of precision and recall; NaN where a label neither occurs nor is
        given."""
        either = self.given + self.true
        return np.where(either > 0, 2 * self.right / np.maximum(either, 1), np.nan)


def measure(
    truth: np.ndarray,
    probabilities: np.ndarray,
    given: np.ndarray,
    classes: Sequence[str],
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> Metrics:
    """Compares what a network said of some images with what is true of them.

    Args:
        truth: (n, k) bool.
        probabilities: (n, k).
        given: (n, k) bool, the labels above their thresholds.
        classes: Names of the k labels.
        groups: (n,) of any sortable type; images of equal value are drawn together.
        seed: Of the bootstrap.
    """
    n, exact = len(truth), (truth == given).all(1)
    counts = _counted(truth, given, np.ones(n))
    precisions = average_precision(truth, probabilities)
    drawn = draw_images(n, groups, seed)
    drawn_precisions = average_precision(truth, probabilities, drawn)
    drawn_counts = _counted(truth, given, drawn)
    units = n if groups is None else len(np.unique(groups))

    def estimate(value: float | np.ndarray, values: np.ndarray) -> Estimate:
        return resampled(np.append(value, values), n, units)

    numbers = {
        "map": estimate(mean_of_known(precisions), mean_of_known(drawn_precisions)),
        "macro_f1": estimate(mean_of_known(counts.f1), mean_of_known(drawn_counts.f1)),
        "exact_matches": estimate(exact.mean(), drawn @ exact / drawn.sum(1)),
    }
    if groups is None:
        numbers["exact_matches"] = wilson(int(exact.sum()), n)
    per_class = []
    for k, name in enumerate(classes):
        right, said, true = (int(values[k]) for values in counts)
        every = drawn_precisions[:, k]
        estimates = {
            "average_precision": percentile(
                precisions[k], every[np.isfinite(every)], n, min(units, true)
            )
            if true
            else None,
            "recall": wilson(right, true) if true else None,
            "precision": wilson(right, said) if said else None,
        }
        per_class.append(PerClass(name, true, estimates, float(np.nan_to_num(counts.f1[k]))))
    loss = float(_losses(truth, probabilities).mean())
    return Metrics(numbers, n, loss, tuple(per_class), _curves(truth, probabilities))


def _counted(truth: np.ndarray, given: np.ndarray, drawn: np.ndarray) -> Counts:
    """Images by label, where each is there as often as it was drawn: (n,) or (resamples, n)."""
    weights = drawn.astype(np.float64)
    return Counts(weights @ (truth & given), weights @ given, weights @ truth)


def _losses(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(n,) binary cross-entropy, summed over labels."""
    chosen = np.where(truth, probabilities, 1 - probabilities.astype(np.float64))
    return np.asarray(-np.log(np.maximum(chosen, 1e-12)).sum(1))


def _curves(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Precision and recall at the thresholds of `GRID`, of all labels together (the first row) and
    of each; NaN where none is given, or none occurs."""
    given = probabilities[None] >= GRID[:, None, None]
    right, said = (given & truth).sum(1), given.sum(1)  # (thresholds, labels)
    true = truth.sum(0)
    with np.errstate(invalid="ignore"):
        precision = np.vstack([right.sum(1) / said.sum(1), (right / said).T])
        recall = np.vstack([right.sum(1) / true.sum(), (right / true).T])
    return {"precision_at": precision, "recall_at": recall}


class LabelEvidence(NamedTuple):
    """What is kept of one image: (k,) arrays."""

    truth: np.ndarray
    probabilities: np.ndarray
    given: np.ndarray
    thresholds: np.ndarray


def compare(truth: Prediction, prediction: Prediction) -> LabelEvidence:
    """The true labels, what the network said, and what it gave at its thresholds."""
    said = prediction.probabilities
    return LabelEvidence(truth.given, said, prediction.given, prediction.thresholds)


def _stacked(evidence: Sequence[LabelEvidence]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    truth, probabilities, given = (np.stack([one[place] for one in evidence]) for place in range(3))
    return truth, probabilities, given


def quick(evidence: Sequence[LabelEvidence]) -> Quick:
    """Mean average precision and loss."""
    truth, probabilities, _ = _stacked(evidence)
    found = float(mean_of_known(average_precision(truth, probabilities)))
    loss = float(_losses(truth, probabilities).mean())
    return Quick(0.0 if math.isnan(found) else found, loss)


def measure_evidence(
    evidence: Sequence[LabelEvidence], classes: Sequence[str], groups: np.ndarray | None
) -> Metrics:
    """See `measure`."""
    metrics = measure(*_stacked(evidence), classes, groups)
    return replace(metrics, detail={"thresholds": evidence[0].thresholds, **metrics.detail})


def worst(evidence: Sequence[LabelEvidence]) -> np.ndarray:
    """Images whose labels are not all right, the highest loss first."""
    truth, probabilities, given = _stacked(evidence)
    order = np.argsort(-_losses(truth, probabilities), kind="stable")
    return order[(truth != given).any(1)[order]][:WORST]


def row(truth: Prediction, prediction: Prediction) -> dict[str, Cell]:
    """Of predictions.csv."""
    return {
        "labels": BETWEEN.join(truth.labels),
        "predicted": BETWEEN.join(prediction.labels),
        "missed": BETWEEN.join(one for one in truth.labels if one not in prediction.labels),
        "wrong": BETWEEN.join(one for one in prediction.labels if one not in truth.labels),
    }


def doubts(rows: Rows, evidence: Sequence[LabelEvidence], classes: Sequence[str]) -> list[str]:
    """A sentence where the network ranks hardly better than chance, whose average precision is how
    often a label occurs."""
    values = [row.get(name) for row in rows for name in ("val_map", "val_map_ema")]
    reached = [value for value in values if value is not None]
    often = np.stack([one.truth for one in evidence]).mean(0)
    chance = float(often[often > 0].mean()) if often.any() else 0.0
    if not reached or max(reached) > chance + (1 - chance) / 10:
        return []
    return [
        f"the validation mAP never rose clearly above {chance:.1%}, which chance alone would give:"
        " the network has learnt next to nothing. Perhaps the learning rate is too high or too low"
        " (--lr), the run too short, the labels wrong, or the statistics of BatchNorm do not fit"
        " the images (--norms train)"
    ]


def sections(metrics: Metrics, cases: Sequence[Case]) -> list[Section]:
    """Bars of each label, precision and recall over the threshold, and the worst images."""
    bars = class_section(
        metrics,
        "Labels",
        "Average precision: how well the images with a label are ranked before those without it."
        " Recall and precision at the label's own threshold. With 95 % confidence intervals.",
        ("average_precision", "recall", "precision"),
    )
    figures = [_figure(case) for case in cases]
    mistakes = case_section(
        "Worst images",
        "The highest loss first. Beside each image: the class activation map of its most probable"
        " label."
        if figures
        else f"All labels of all {metrics.n} images are right.",
        figures,
    )
    return [bars, _lines(metrics), mistakes]


def _lines(metrics: Metrics) -> Section:
    curves = {"precision": metrics.detail["precision_at"], "recall": metrics.detail["recall_at"]}
    charts = []
    chosen = zip(metrics.classes, metrics.detail["thresholds"], strict=True)
    names = ["all labels", *(f"{name} (chosen: {threshold:.2f})" for name, threshold in chosen)]
    for place, name in enumerate(names[: MOST_CHARTS + 1]):
        lines = {
            said: [(float(x), float(y)) for x, y in zip(GRID, values[place], strict=True) if y == y]
            for said, values in curves.items()
        }
        if lines := {said: points for said, points in lines.items() if points}:
            charts.append(chart(name, lines, percent=True, x_title="threshold"))
    hint = "Lower thresholds find more images of a label (recall), and more others (precision)."
    return Section("lines", "Thresholds", hint, {"charts": charts, "over": "thresholds"})


def _figure(case: Case) -> Figure:
    truth, prediction = case.truth, case.prediction
    shares = dict(zip(prediction.classes, map(float, prediction.probabilities), strict=True))
    right = [one for one in prediction.labels if one in truth.labels]
    captions = [
        *(Caption("said", one, shares[one]) for one in right),
        *(
            Caption("said wrong", f"wrongly {one}", shares[one])
            for one in prediction.labels
            if one not in truth.labels
        ),
        *(
            Caption("true", f"missed {one}", shares[one])
            for one in truth.labels
            if one not in prediction.labels
        ),
    ]
    heat = f"Class activation map of {prediction.label} in {prediction.file}"
    return Figure(case, tuple(captions), heat)


EVALUATOR = Evaluator(
    main="map",
    compare=compare,
    quick=quick,
    measure=measure_evidence,
    worst=worst,
    sections=sections,
    row=row,
    doubts=doubts,
    model="Multi-label image classifier",
    caution="It knows no other labels than these",
)
