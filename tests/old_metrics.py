"""`evaluation.metrics` as it was while classes were the only task: an oracle for test_metrics.py,
not to be changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

RESAMPLES = 1000
TOP = 5


@dataclass(frozen=True)
class Estimate:
    """A measured fraction, 0 to 1, with its interval and the number of images it rests on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return (
            f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}], n ="
            f" {self.n:,}"
        )


@dataclass(frozen=True)
class ClassMetrics:
    """How one class fares. Its intervals take images as independent, with groups or without.

    Args:
        name: The class.
        n: Images that show it.
        precision: Of the images that were called so, the part that are. None where none was
            called so.
        recall: Of the images that show it, the part that were called so. None where none shows
            it.
        f1: Harmonic mean of both; 0 where nothing was found.
    """

    name: str
    n: int
    precision: Estimate | None
    recall: Estimate | None
    f1: float


@dataclass(frozen=True)
class Metrics:
    """All numbers of one evaluation.

    Args:
        classes: Names of the k classes.
        confusion: (k, k) int64, images by true class (rows) and predicted class (columns).
        accuracy: Part of the images that were named rightly.
        balanced_accuracy: Mean recall of the classes that occur among the labels.
        macro_f1: Mean F1 of the classes that occur among labels or predictions.
        top_k: By k, the part of the images whose class is among the k most probable. Empty for
            five classes or fewer.
        loss: Mean negative log likelihood (natural logarithm).
        per_class: In the order of `classes`.
    """

    classes: tuple[str, ...]
    confusion: np.ndarray
    accuracy: Estimate
    balanced_accuracy: Estimate
    macro_f1: Estimate
    top_k: dict[int, Estimate]
    loss: float
    per_class: tuple[ClassMetrics, ...]

    @property
    def n(self) -> int:
        """Number of images."""
        return self.accuracy.n

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and strings, as they go into JSON."""
        estimates = {
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
        }
        estimates |= {f"top_{k}": estimate for k, estimate in self.top_k.items()}
        per_class = [
            {
                "name": c.name,
                "n": c.n,
                **_plain("precision", c.precision),
                **_plain("recall", c.recall),
                "f1": c.f1,
            }
            for c in self.per_class
        ]
        numbers = {
            key: value
            for name, estimate in estimates.items()
            for key, value in _plain(name, estimate).items()
        }
        return numbers | {
            "loss": self.loss,
            "n": self.n,
            "per_class": per_class,
            "confusion": self.confusion.tolist(),
        }


def wilson(hits: int, n: int, level: float = 0.95) -> Estimate:
    """The proportion hits / n with Wilson's score interval, which holds for small n and near 0 and
    1 as well."""
    if not (n >= 1 and 0 <= hits <= n and 0 < level < 1):
        raise ValueError(
            f"wilson: {hits} hits of n = {n} at level {level}; needed are n >= 1, 0 <= hits <= n, 0"
            " < level < 1"
        )
    return Estimate(hits / n, *_wilson(hits / n, n, level), int(n))


def measure(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> Metrics:
    """Compares what a network said with what is true.

    Args:
        probabilities: (n, k), a row for each image that sums to 1.
        labels: (n,) integers, positions in `classes`.
        classes: Names of the k classes.
        groups: (n,) of any sortable type; images of equal value belong together.
        seed: Of the bootstrap.
    """
    probabilities, labels = _checked(np.asarray(probabilities), np.asarray(labels), classes, groups)
    n, k = probabilities.shape
    predicted = probabilities.argmax(1)
    confusion = np.bincount(labels * k + predicted, minlength=k * k).reshape(k, k)
    right, support, guessed = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    in_top = _rank(probabilities, labels, predicted) < TOP
    balanced, macro = _means(right, support, guessed)

    drawn_right, drawn_support, drawn_guessed, drawn_top = _bootstrap(
        labels, predicted, in_top, groups, k, seed
    )
    drawn_balanced, drawn_macro = _means(drawn_right, drawn_support, drawn_guessed)
    units = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    n_units = int(units.max()) + 1
    per_class = np.bincount(np.unique(units * k + labels) % k)  # units that hold a class
    n_balanced = min(
        n_units, np.count_nonzero(per_class) ** 2 / (1 / per_class[per_class > 0]).sum()
    )

    def proportion(hits: np.ndarray, drawn: np.ndarray) -> Estimate:
        if groups is None:
            return wilson(int(hits.sum()), n)
        return _percentile(float(hits.sum() / n), drawn / drawn_support.sum(1), n, n_units)

    return Metrics(
        classes=tuple(classes),
        confusion=confusion,
        accuracy=proportion(right, drawn_right.sum(1)),
        balanced_accuracy=_percentile(float(balanced), drawn_balanced, n, n_balanced),
        macro_f1=_percentile(float(macro), drawn_macro, n, n_balanced),
        top_k={TOP: proportion(in_top, drawn_top)} if k > TOP else {},
        loss=_loss(probabilities, labels),
        per_class=tuple(
            _class_metrics(*row) for row in zip(classes, right, support, guessed, strict=True)
        ),
    )


def _checked(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The arrays in floating point and int64, or a ValueError that names what is wrong."""
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes):
        raise ValueError(
            f"measure: probabilities of shape {probabilities.shape}; (n, {len(classes)}) was"
            " expected"
        )
    n, k = probabilities.shape
    if n == 0 or k == 0:
        raise ValueError(
            "measure: no images (or no classes) to evaluate on; is the folder or the split empty?"
        )
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"measure: labels of shape {labels.shape} and type {labels.dtype}; ({n},) integers were"
            " expected"
        )
    if labels.min() < 0 or labels.max() >= k:
        raise ValueError(
            f"measure: labels from {labels.min()} to {labels.max()}; allowed are 0 to {k - 1}, one"
            " for each class"
        )
    if groups is not None and np.shape(groups) != (n,):
        raise ValueError(
            f"measure: groups of shape {np.shape(groups)}; ({n},) was expected, one for each image"
        )
    probabilities = (
        probabilities
        if np.issubdtype(probabilities.dtype, np.floating)
        else probabilities.astype(np.float64)
    )
    if not (
        probabilities.min() >= 0 and np.abs(probabilities.sum(1, dtype=np.float64) - 1).max() < 0.01
    ):  # NaN lands here too
        raise ValueError(
            "measure: rows of probabilities must be finite, not negative and sum to 1; are these"
            " logits? Apply softmax"
        )
    return probabilities, labels.astype(np.int64)


def _rank(probabilities: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(n,) place of the true class, 0 for the most probable; of equals the first in order stands
    first, as in `argmax`."""
    rank = np.zeros(len(labels), np.int64)
    wrong = np.flatnonzero(predicted != labels)
    rows, own = probabilities[wrong], labels[wrong, None]
    mine = np.take_along_axis(rows, own, 1)
    before = np.arange(rows.shape[1]) < own
    rank[wrong] = np.count_nonzero((rows > mine) | ((rows == mine) & before), axis=1)
    return rank


def _loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    # a probability of 0 costs 87, not infinity
    return float(-np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean())


def _means(
    right: np.ndarray, support: np.ndarray, guessed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Balanced accuracy and macro-F1, (...), from counts by class, (..., k)."""
    either = support + guessed
    recall = right / np.maximum(support, 1)  # 0 where the class does not occur
    f1 = 2 * right / np.maximum(either, 1)
    return recall.sum(-1) / (support > 0).sum(-1), f1.sum(-1) / (either > 0).sum(-1)


def _bootstrap(
    labels: np.ndarray,
    predicted: np.ndarray,
    in_top: np.ndarray,
    groups: np.ndarray | None,
    k: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draws images, or whole groups, with replacement.

    Images of equal label, prediction and rank are interchangeable. So what is drawn is counted by
    such kinds, few beside the k x k cells of a confusion matrix, and each resample becomes counts
    by class in three passes over the kinds.

    Returns:
        Per resample: rightly named, shown and predicted images by class, (RESAMPLES, k) each, and
        (RESAMPLES,) in the top.
    """
    kind = (labels * k + predicted) * 2 + in_top
    if groups is None:
        # a draw from the pool names a unit: here a kind
        kinds, pool = np.unique(kind, return_inverse=True)
        unit, count = np.arange(len(kinds)), np.ones(len(kinds), np.int64)
    else:
        of_picture = np.unique(groups, return_inverse=True)[1]
        # here a group, which brings some images of some kinds
        pool = np.arange(of_picture.max() + 1)
        pairs, count = np.unique(of_picture * (2 * k * k) + kind, return_counts=True)
        unit, kinds = np.divmod(pairs, 2 * k * k)
    true, said, top = kinds // 2 // k, kinds // 2 % k, kinds % 2
    hit = true == said
    right, support, guessed = np.zeros((3, RESAMPLES, k))
    in_top_drawn = np.zeros(RESAMPLES)
    rng = np.random.default_rng(seed)
    for i in range(RESAMPLES):
        drawn = (
            np.bincount(pool[rng.integers(len(pool), size=len(pool))], minlength=unit[-1] + 1)[unit]
            * count
        )
        right[i] = np.bincount(true[hit], drawn[hit], k)
        support[i] = np.bincount(true, drawn, k)
        guessed[i] = np.bincount(said, drawn, k)
        in_top_drawn[i] = drawn @ top
    return right, support, guessed, in_top_drawn


def _percentile(value: float, drawn: np.ndarray, n: int, n_effective: float) -> Estimate:
    """95 % of the resampled values, and `value` itself.

    Resamples that never differ (no mistake at all, a single group) know no spread; they would call
    it certain. Wilson's interval for as many independent units as carry the number says what can be
    said.
    """
    if np.ptp(drawn) < 1e-12:
        low, high = _wilson(value, n_effective, 0.95)
    else:
        low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, min(float(low), value), max(float(high), value), n)


def _wilson(share: float, n: float, level: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (0.0 if share == 0 else max(0.0, centre - half)), (
        1.0 if share == 1 else min(1.0, centre + half)
    )


def _class_metrics(name: str, right: int, support: int, guessed: int) -> ClassMetrics:
    return ClassMetrics(
        name=name,
        n=int(support),
        precision=wilson(int(right), int(guessed)) if guessed else None,
        recall=wilson(int(right), int(support)) if support else None,
        f1=float(2 * right / max(support + guessed, 1)),
    )


def _plain(name: str, estimate: Estimate | None) -> dict[str, Any]:
    if estimate is None:
        return {name: None, f"{name}_interval": None}
    return {name: estimate.value, f"{name}_interval": [estimate.low, estimate.high]}
