"""Numbers of a segmentation: intersection over union of each class and their mean, and the part of
the pixels that are right, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from resnets.evaluation.evaluator import Evaluator, Quick, Rows
from resnets.evaluation.metrics import (
    Estimate,
    Metrics,
    PerClass,
    draw_images,
    mean_of_known,
    part_of,
    resampled,
)
from resnets.evaluation.sections import (
    WORST_LARGE,
    Caption,
    Case,
    Figure,
    Section,
    case_section,
    class_section,
    matrix_section,
)
from resnets.kinds.prediction import Cell, Prediction
from resnets.kinds.view import NOT_JUDGED


class MaskEvidence(NamedTuple):
    """Pixels of one image that are judged, as counts.

    Args:
        hits: (k,) of each class, predicted so.
        wanted: (k,) of each class.
        said: (k,) predicted as each class.
        pairs: (p,) true class * k + predicted class, of those that occur.
        counts: (p,) of each pair.
    """

    hits: np.ndarray
    wanted: np.ndarray
    said: np.ndarray
    pairs: np.ndarray
    counts: np.ndarray


def compare(truth: Prediction, prediction: Prediction) -> MaskEvidence:
    """Counts of pixels.

    Raises:
        ValueError: The masks are of different sizes.
    """
    if truth.mask.shape != prediction.mask.shape:
        raise ValueError(
            f"{truth.file}: its mask has {truth.mask.shape} pixels, the image"
            f" {prediction.mask.shape}; save both in one size"
        )
    k, judged = len(truth.classes), truth.mask != NOT_JUDGED
    flat = truth.mask[judged].astype(np.int64) * k + prediction.mask[judged]
    matrix = np.bincount(flat, minlength=k * k).reshape(k, k)
    pairs = np.flatnonzero(matrix)
    return MaskEvidence(
        matrix.diagonal().copy(), matrix.sum(1), matrix.sum(0), pairs, matrix.ravel()[pairs]
    )


def _stacked(evidence: Sequence[MaskEvidence]) -> np.ndarray:
    """(3, n, k): hits, wanted, said."""
    return np.stack([np.stack([one[place] for one in evidence]) for place in range(3)])


def intersection_over_union(hits: np.ndarray, wanted: np.ndarray, said: np.ndarray) -> np.ndarray:
    """(..., k) pixels; NaN for a class that no image shows, of which nothing is known."""
    union = wanted + said - hits
    return np.where(wanted > 0, hits / np.maximum(union, 1), np.nan)


def quick(evidence: Sequence[MaskEvidence]) -> Quick:
    """Mean intersection over union; there is no loss of decoded masks."""
    found = float(mean_of_known(intersection_over_union(*_stacked(evidence).sum(1))))
    return Quick(0.0 if math.isnan(found) else found, None)


def measure(
    evidence: Sequence[MaskEvidence], classes: Sequence[str], groups: np.ndarray | None
) -> Metrics:
    """See `Evaluator`. The mean is over the classes that the images show; intervals are of images,
    or groups, drawn with replacement, since pixels of one image resemble one another."""
    n = len(evidence)
    drawn = np.concatenate([np.ones((1, n), np.int64), draw_images(n, groups, 0)])
    units = n if groups is None else len(np.unique(groups))
    hits, wanted, said = np.matmul(drawn.astype(np.float64), _stacked(evidence))

    def estimate(values: np.ndarray, independent: int = units) -> Estimate:
        return resampled(values, n, independent)

    found = intersection_over_union(hits, wanted, said)
    numbers = {
        "miou": estimate(mean_of_known(found)),
        "pixel_accuracy": estimate(part_of(hits.sum(1), wanted.sum(1))),
        "mean_recall": estimate(mean_of_known(part_of(hits, wanted))),
    }
    per_class = []
    for k, name in enumerate(classes):
        shown = sum(int(one.wanted[k] > 0) for one in evidence)
        least = min(units, max(1, shown))
        estimates = {
            "iou": estimate(found[:, k], least) if shown else None,
            "recall": estimate(part_of(hits[:, k], wanted[:, k]), least) if shown else None,
            "precision": estimate(part_of(hits[:, k], said[:, k])) if said[0, k] else None,
        }
        f1 = float(2 * hits[0, k] / max(1.0, wanted[0, k] + said[0, k]))
        per_class.append(PerClass(name, shown, estimates, f1))
    size = len(classes)
    confusion = np.zeros(size * size, np.int64)
    for one in evidence:
        confusion[one.pairs] += one.counts
    return Metrics(numbers, n, None, tuple(per_class), {"confusion": confusion.reshape(size, size)})


def worst(evidence: Sequence[MaskEvidence]) -> np.ndarray:
    """Images in which pixels are wrong, the largest part first."""
    hits, wanted = (np.array([one[place].sum() for one in evidence]) for place in range(2))
    right = np.where(wanted > 0, hits / np.maximum(wanted, 1), 1.0)
    order = np.argsort(right, kind="stable")
    return order[right[order] < 1][:WORST_LARGE]


def row(truth: Prediction, prediction: Prediction) -> dict[str, Cell]:
    """Of predictions.csv: the part of the pixels that are right, and the mean over classes of
    intersection over union in this image."""
    one = compare(truth, prediction)
    total = int(one.wanted.sum())
    found = float(mean_of_known(intersection_over_union(one.hits, one.wanted, one.said)))
    return {
        "pixel_accuracy": round(float(one.hits.sum()) / total, 5) if total else None,
        "miou": None if math.isnan(found) else round(found, 5),
    }


def doubts(rows: Rows, evidence: Sequence[MaskEvidence], classes: Sequence[str]) -> list[str]:
    """A sentence where the network does no better than one class for all pixels."""
    values = [row.get(name) for row in rows for name in ("val_miou", "val_miou_ema")]
    reached = [value for value in values if value is not None]
    wanted = np.sum([one.wanted for one in evidence], 0)
    found = []
    shown = wanted > 0
    chance = float(wanted.max() / wanted.sum() / shown.sum()) if shown.any() else 0.0
    if reached and max(reached) <= chance * 1.05:
        found.append(
            f"the validation mIoU never rose above {chance:.1%}, which one class for all pixels"
            " would give: the network has learnt next to nothing. Perhaps the learning rate is too"
            " high or too low (--lr), or the run too short"
        )
    return found


def sections(metrics: Metrics, cases: Sequence[Case]) -> list[Section]:
    """The classes as bars, which of them are confused, and the worst images."""
    bars = class_section(
        metrics,
        "Classes",
        "IoU: pixels that are of the class and predicted so, over those that are either; recall and"
        " precision of pixels. With 95 % confidence intervals. Images: those that show the class."
        " mIoU is a mean over the classes that images show.",
        ("iou", "recall", "precision"),
    )
    figures, confusion = [_figure(case) for case in cases], metrics.detail["confusion"]
    hint = "The largest part of wrong pixels first; the truth beside the prediction."
    if not figures:
        right = confusion.trace() == confusion.sum()
        hint = f"Every pixel of all {metrics.n} images is right." if right else "None is shown."
    mistakes = case_section("Worst images", hint, figures, large=True)
    return [bars, matrix_section(metrics, "pixels"), mistakes]


def _figure(case: Case) -> Figure:
    one = compare(case.truth, case.prediction)
    right = float(one.hits.sum() / max(1, one.wanted.sum()))
    k = len(case.truth.classes)
    captions = [Caption("said", "of the pixels right", right)]
    wrong = [
        (int(count), divmod(int(pair), k))
        for pair, count in zip(one.pairs, one.counts, strict=True)
        if pair // k != pair % k
    ]
    for _, (true, said) in sorted(wrong, reverse=True)[:2]:
        names = case.truth.classes
        captions.append(Caption("said wrong", f"{names[true]} as {names[said]}"))
    return Figure(case, tuple(captions), f"Prediction for {case.prediction.file}")


EVALUATOR = Evaluator(
    main="miou",
    compare=compare,
    quick=quick,
    measure=measure,
    worst=worst,
    sections=sections,
    pipeline="image-segmentation",
    row=row,
    doubts=doubts,
    model="Semantic segmentation",
    caution="Every pixel is given one of these classes, whatever it shows",
)
