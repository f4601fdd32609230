"""Measured numbers, each with its n and a 95 % interval.

Proportions of independent images get Wilson's interval; all else gets the percentile interval of a
bootstrap over images. Images of one group (one patient, one video) resemble one another: where
groups are given, whole groups are resampled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np

RESAMPLES = 1000
TITLES = {  # where the name itself does not say it
    "macro_f1": "macro F1",
    "map": "mAP",
    "miou": "mIoU",
    "iou": "IoU",
    **{name: name.upper() for name in ("ap", "ap50", "ap75")},
    **{f"ap_{size}": f"AP of {size} ones" for size in ("small", "medium", "large")},
}


def title(name: str) -> str:
    """A number's name as people write it: `balanced accuracy`, `macro F1`, `top-5`."""
    known = TITLES.get(name, name.replace("_", " "))
    return known.replace("top ", "top-")


def heading(name: str) -> str:
    """The same at the beginning of a line: `Balanced accuracy`, `mAP`."""
    said = title(name)
    return said if any(letter.isupper() for letter in said[:3]) else said[:1].upper() + said[1:]


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
class PerClass:
    """How one class fares. Its intervals take images as independent, with groups or without.

    Args:
        name: The class.
        n: Images that show it.
        estimates: By name, such as recall and precision, in the order in which people see them;
            None where there is nothing to measure.
        f1: Harmonic mean of precision and recall; 0 where nothing was found.
    """

    name: str
    n: int
    estimates: Mapping[str, Estimate | None]
    f1: float

    def __getattr__(self, name: str) -> Any:
        estimates = vars(self).get("estimates", {})  # none while it is being unpickled
        if name in estimates:
            return estimates[name]
        raise AttributeError(f"no {name!r} was measured of a class")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, as they go into JSON, estimates by name in alphabetical order."""
        estimates = dict(sorted(self.estimates.items()))
        return {"name": self.name, "n": self.n, **plain(estimates), "f1": self.f1}


@dataclass(frozen=True)
class Metrics:
    """All numbers of one evaluation; each of `numbers` and of `detail` is an attribute
    too: `metrics.accuracy`.

    Args:
        numbers: By name, in order; the first is the main one.
        n: Number of images.
        loss: Mean loss of an image, where the task has one.
        per_class: In the order of the model's classes.
        detail: What else the task measures, plain, as it goes into JSON.
    """

    numbers: Mapping[str, Estimate]
    n: int
    loss: float | None
    per_class: tuple[PerClass, ...]
    detail: Mapping[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        for measured in (vars(self).get("numbers", {}), vars(self).get("detail", {})):
            if name in measured:
                return measured[name]
        raise AttributeError(f"no {name!r} was measured")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(one.name for one in self.per_class)

    @property
    def main(self) -> tuple[str, Estimate]:
        """The number that stands for all, and its name as people write it."""
        name, estimate = next(iter(self.numbers.items()))
        return title(name), estimate

    @property
    def unmeasured(self) -> list[str]:
        """Classes that no image shows: no number says anything of them."""
        return [one.name for one in self.per_class if not one.n]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and strings, as they go into JSON."""
        return {
            **plain(self.numbers),
            "loss": self.loss,
            "n": self.n,
            "per_class": [one.to_dict() for one in self.per_class],
            **{name: _finite(np.asarray(value).tolist()) for name, value in self.detail.items()},
        }


def plain(estimates: Mapping[str, Estimate | None]) -> dict[str, Any]:
    """`NAME` and `NAME_interval` of each estimate."""
    values: dict[str, Any] = {}
    for name, one in estimates.items():
        values[name] = None if one is None else one.value
        values[f"{name}_interval"] = None if one is None else [one.low, one.high]
    return values


def _finite(value: Any) -> Any:
    """A number, or lists of them, with None for what is not a number: JSON has no NaN."""
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def wilson(hits: float, n: float, level: float = 0.95) -> Estimate:
    """The proportion hits / n with Wilson's score interval, which holds for small n and near 0 and
    1 as well."""
    if not (n >= 1 and 0 <= hits <= n and 0 < level < 1):
        raise ValueError(
            f"wilson: {hits} hits of n = {n} at level {level}; needed are n >= 1, 0 <= hits <= n, 0"
            " < level < 1"
        )
    return Estimate(hits / n, *_wilson_interval(hits / n, n, level), int(n))


def percentile(value: float, drawn: np.ndarray, n: int, n_effective: float) -> Estimate:
    """95 % of the resampled values, and `value` itself.

    Resamples that never differ (no mistake at all, a single group) know no spread; they would call
    it certain. Wilson's interval for as many independent units as carry the number says what can be
    said.
    """
    if np.ptp(drawn) < 1e-12:
        low, high = _wilson_interval(value, n_effective, 0.95)
    else:
        low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, min(float(low), value), max(float(high), value), n)


def resampled(values: np.ndarray, n: int, n_effective: float) -> Estimate:
    """`percentile` of what may have nothing to rest on: then nothing is known.

    Args:
        values: (1 + resamples,), of the images as they are and of each resample; NaN where there is
            nothing to measure.
        n: Number of images.
        n_effective: Independent units that carry the number.
    """
    if not math.isfinite(values[0]):
        return Estimate(0.0, 0.0, 1.0, 0)
    drawn = values[1:]
    return percentile(float(values[0]), drawn[np.isfinite(drawn)], n, n_effective)


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """(..., classes) over the classes of which something is known; NaN where that is none."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(-1)
    return np.where(known.any(-1), total / np.maximum(known.sum(-1), 1), np.nan)


def part_of(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Counts as a part of others; NaN where these are 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def clusters(names: Sequence[str]) -> np.ndarray | None:
    """Groups (n,) to resample, where every image has one and some share theirs; else None."""
    groups = np.array(names)
    grouped = bool((groups != "").all()) and len(np.unique(groups)) < len(groups)
    return groups if grouped else None


def draw_images(n: int, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """The resamples of a bootstrap: images, or whole groups, drawn with replacement.

    Args:
        n: Number of images.
        groups: (n,) of any sortable type; None where each image stands for itself.
        seed: Fixes the draws.

    Returns:
        (RESAMPLES, n) int64, how often each image was drawn.
    """
    unit = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(unit.max()) + 1
    rng = np.random.default_rng(seed)
    return np.stack(
        [
            np.bincount(rng.integers(units, size=units), minlength=units)[unit]
            for _ in range(RESAMPLES)
        ]
    )


def _wilson_interval(share: float, n: float, level: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (0.0 if share == 0 else max(0.0, centre - half)), (
        1.0 if share == 1 else min(1.0, centre + half)
    )
