"""What more images would bring: the error over the number of training images follows a power law
(Hestness et al. 2017, arXiv:1712.00409), which a few subsets show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resnets.evaluation.curves import chart
from resnets.evaluation.metrics import Estimate, draw_images, title, wilson
from resnets.evaluation.sections import Section

FALLS = 1.0  # exponent at most: twice the images halve the error
WORTH = 0.01  # of the main number: what is worth collecting images for


@dataclass(frozen=True)
class Growth:
    """How good a model is with fewer images, and would be with twice as many.

    Args:
        number: Name of what was measured.
        sizes: Training images, ascending; the last one is all.
        reached: What was measured with each.
        doubled: The forecast for twice as many as all.
    """

    number: str
    sizes: tuple[int, ...]
    reached: tuple[Estimate, ...]
    doubled: Estimate

    @property
    def gain(self) -> float:
        """By how much twice the images would raise the number."""
        return self.doubled.value - self.reached[-1].value

    def rows(self) -> list[dict[str, float | int | str]]:
        """Of learning_curve.csv."""
        pairs = [*zip(self.sizes, self.reached, strict=True), (2 * self.sizes[-1], self.doubled)]
        return [
            {
                "images": size,
                "number": self.number,
                "value": round(one.value, 6),
                "low": round(one.low, 6),
                "high": round(one.high, 6),
                "n": one.n,
            }
            for size, one in pairs
        ]

    @classmethod
    def read(cls, rows: Sequence[dict[str, str]]) -> Growth:
        """From what `rows` gave, as text."""
        found = [
            Estimate(float(row["value"]), float(row["low"]), float(row["high"]), int(row["n"]))
            for row in rows
        ]
        sizes = tuple(int(row["images"]) for row in rows[:-1])
        return cls(rows[0]["number"], sizes, tuple(found[:-1]), found[-1])


def extrapolate(number: str, sizes: Sequence[int], right: np.ndarray, seed: int = 0) -> Growth:
    """The forecast for twice the images, from the slope of the logarithm of the error over that of
    the number of images.

    Args:
        number: Name of the share that is right.
        sizes: Numbers of training images, ascending.
        right: (sizes, n) how often each validation image was right with so many: a share of draws.
        seed: Of the bootstrap over validation images.
    """
    n = right.shape[1]
    times = draw_images(n, None, seed)
    drawn = np.concatenate([right.mean(1)[None], times @ right.T / n])
    doubled = 1 - _error_of_double(np.array(sizes), 1 - drawn, n)
    low, high = np.percentile(doubled[1:], [2.5, 97.5])
    value = float(doubled[0])
    reached = tuple(wilson(round(share * n), n) for share in right.mean(1).tolist())
    forecast = Estimate(value, min(float(low), value), max(float(high), value), n)
    return Growth(number, tuple(sizes), reached, forecast)


def _error_of_double(sizes: np.ndarray, errors: np.ndarray, n: int) -> np.ndarray:
    """(draws,) from (draws, sizes): a line through the logarithms, sizes weighted by themselves, so
    that the end of the curve counts; an error of 0 in n images is taken for that of half an
    image."""
    heights, logs, weights = np.log(np.maximum(errors, 0.5 / n)), np.log(sizes), sizes / sizes.sum()
    centred = logs - weights @ logs
    slopes = heights @ (weights * centred) / (weights @ centred**2)
    now = heights @ weights + slopes * centred[-1]
    return np.exp(now + np.clip(slopes, -FALLS, 0) * np.log(2))


def growth_section(growth: Growth) -> Section:
    """The curve and its continuation."""
    measured = [
        (float(size), one.value) for size, one in zip(growth.sizes, growth.reached, strict=True)
    ]
    last = measured[-1]
    lines = {"measured": measured, "forecast": [last, (2 * last[0], growth.doubled.value)]}
    name, doubled = title(growth.number), growth.doubled
    hint = (
        f"The {name} of linear probes on parts of the {growth.sizes[-1]:,} training images, and of"
        f" one with twice as many: about {100 * doubled.value:.1f} % ({100 * doubled.low:.1f} to"
        f" {100 * doubled.high:.1f}), if the new images are like these. The final network learns"
        " more than a probe, but what more images bring is alike."
    )
    drawn = chart(f"{name[:1].upper()}{name[1:]} of a probe", lines, True, "training images")
    return Section("lines", "More images", hint, {"charts": [drawn], "over": "training images"})
