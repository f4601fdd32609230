"""Two models on the same images: how far their main numbers are apart, and whether that is more
than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from resnets.evaluation.evaluator import Evaluator, Evidence
from resnets.evaluation.metrics import draw_images, title, wilson

DRAWS = 200  # resamples where each has to be measured anew; percentiles need no more here
WORSE, NOT_WORSE, UNDECIDED = "worse", "not worse", "not decided"


@dataclass(frozen=True)
class Comparison:
    """Model A less model B.

    Args:
        number: The main number of their task.
        difference: Of it, -1 to 1.
        low: Lower bound of its 95 % interval.
        high: Upper bound.
        n: Images that both were measured on.
        only: Images that A alone and that B alone is right on, where an image is right or wrong.
        p: Of McNemar's exact test that these are equally many by chance (McNemar 1947); None
            where there is no right or wrong, or where images come in groups.
        both: Images that both are right on; None where p is.
    """

    number: str
    difference: float
    low: float
    high: float
    n: int
    only: tuple[int, int] | None = None
    p: float | None = None
    both: int | None = None

    def verdict(self, margin: float) -> str:
        """Whether A is worse than B by more than a margin (0 to 1): `worse` if the whole interval
        says so, `not worse` if none of it does, else `not decided`."""
        if self.high < -margin:
            return WORSE
        return NOT_WORSE if self.low >= -margin else UNDECIDED

    def scaled(self, factor: float) -> Comparison:
        """What so many times the images would say if they were like these: counts and the interval
        that follows from them; where nothing is counted, one that is narrower by the root of the
        factor. Without p."""
        if self.both is None or self.only is None:
            root = math.sqrt(factor)
            low, high = (
                self.difference + (bound - self.difference) / root
                for bound in (self.low, self.high)
            )
            return replace(self, low=low, high=high, n=round(self.n * factor), p=None)
        neither = self.n - self.both - sum(self.only)
        counts = [factor * count for count in (self.both, *self.only, neither)]
        low, high = _newcombe(*counts)
        both, *only, _ = map(round, counts)
        return replace(
            self,
            low=low,
            high=high,
            n=round(self.n * factor),
            only=(only[0], only[1]),
            p=None,
            both=both,
        )

    def __str__(self) -> str:
        text = (
            f"{title(self.number)} {100 * self.difference:+.1f} points"
            f" [{100 * self.low:+.1f}, {100 * self.high:+.1f}], n = {self.n:,}"
        )
        if self.only:
            text += f"; right in A alone {self.only[0]:,}, in B alone {self.only[1]:,}"
        return text + ("" if self.p is None else f", McNemar p = {self.p:.2g}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they go into JSON."""
        return {**vars(self), "only": list(self.only) if self.only else None}


def compare_paired(
    evaluator: Evaluator,
    evidence: Sequence[tuple[Evidence, Evidence]],
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> Comparison:
    """Compares two models on the same images.

    Args:
        evaluator: Of their task.
        evidence: For each image, of A and of B.
        groups: (n,) of any sortable type; images of equal value belong together.
        seed: Of the bootstrap.

    Raises:
        ValueError: No images.
    """
    if not evidence:
        raise ValueError("no image that both models were measured on")
    if evaluator.right is None:
        return _resampled(evaluator, evidence, groups, seed)
    right = np.array([[evaluator.right(one) for one in pair] for pair in evidence])
    a, b = right.T
    n, both, neither = len(right), int((a & b).sum()), int((~a & ~b).sum())
    only = a_alone, b_alone = int((a & ~b).sum()), int((b & ~a).sum())
    difference = (a_alone - b_alone) / n
    if groups is None:
        low, high = _newcombe(both, a_alone, b_alone, neither)
        p = mcnemar(a_alone, b_alone)
        return Comparison(evaluator.main, difference, low, high, n, only, p, both)
    drawn = draw_images(n, groups, seed)
    values = drawn @ (a.astype(float) - b) / drawn.sum(1)
    low, high = _percentiles(values, difference, len(np.unique(groups)))
    return Comparison(evaluator.main, difference, low, high, n, only)


def mcnemar(a_alone: int, b_alone: int) -> float:
    """Two-sided p of McNemar's exact test: how often a fair coin falls at least as unevenly."""
    n, least = a_alone + b_alone, min(a_alone, b_alone)
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
        for k in range(least + 1)
    ]
    return min(1.0, 2 * sum(map(math.exp, logs)))


def _newcombe(both: float, a_alone: float, b_alone: float, neither: float) -> tuple[float, float]:
    """The 95 % interval of a difference of paired proportions, from how many images both, one or
    none of the models is right on (Newcombe 1998, Statistics in Medicine 17, method 10): Wilson's
    intervals of both, with their correlation. It knows a spread even where both say the same of
    every image."""
    n = both + a_alone + b_alone + neither
    first, second = wilson(both + a_alone, n), wilson(both + b_alone, n)
    product = float(both * neither - a_alone * b_alone)
    product = max(product - n / 2, 0.0) if product > 0 else product
    margins = (both + a_alone) * (b_alone + neither) * (both + b_alone) * (a_alone + neither)
    phi = product / math.sqrt(float(margins)) if margins else 0.0

    def half(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

    difference = first.value - second.value
    return (
        difference - half(first.value - first.low, second.high - second.value),
        difference + half(first.high - first.value, second.value - second.low),
    )


def _resampled(
    evaluator: Evaluator,
    evidence: Sequence[tuple[Evidence, Evidence]],
    groups: np.ndarray | None,
    seed: int,
) -> Comparison:
    """By a bootstrap over images, or groups of them, that measures both on each resample."""

    def difference(places: np.ndarray) -> float:
        a, b = ([evidence[place][side] for place in places] for side in (0, 1))
        return evaluator.quick(a).main - evaluator.quick(b).main

    n = len(evidence)
    drawn = draw_images(n, groups, seed)[:DRAWS]
    values = np.array([difference(np.repeat(np.arange(n), times)) for times in drawn])
    whole = difference(np.arange(n))
    units = n if groups is None else len(np.unique(groups))
    low, high = _percentiles(values[np.isfinite(values)], whole, units)
    return Comparison(evaluator.main, whole, low, high, n)


def _percentiles(drawn: np.ndarray, value: float, units: int) -> tuple[float, float]:
    """95 % of the resampled values, and `value` itself. Resamples that never differ know no spread:
    then the share of images, or groups, that may differ although none of so many does."""
    if np.ptp(drawn) < 1e-12:
        unseen = wilson(0, units).high
        return value - unseen, value + unseen
    low, high = np.percentile(drawn, [2.5, 97.5])
    return min(float(low), value), max(float(high), value)
