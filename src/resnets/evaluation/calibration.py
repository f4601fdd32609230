"""Whether a classifier is right as often as it says: reliability and calibration error (Guo et al.
2017, arXiv:1706.04599, section 2)."""

from __future__ import annotations

import numpy as np

from resnets.evaluation.curves import chart
from resnets.evaluation.metrics import RESAMPLES, Estimate, Metrics, percentile
from resnets.evaluation.sections import Section

BINS = 15  # of equal width, as in the paper
LEAST = 10  # images of a bin that is drawn


def bins_of(confidences: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The images by confidence.

    Args:
        confidences: (n,) probabilities of the predicted class.
        right: (n,) bool, whether it is the true one.

    Returns:
        (BINS, 3): images, mean confidence and accuracy of each bin; 0 of an empty one.
    """
    place = _places(confidences)
    count = np.bincount(place, minlength=BINS)
    sums = [np.bincount(place, values, BINS) for values in (confidences, right)]
    return np.stack([count, *(total / np.maximum(count, 1) for total in sums)], 1)


def calibration_error(
    confidences: np.ndarray, right: np.ndarray, groups: np.ndarray | None, seed: int = 0
) -> Estimate:
    """The expected calibration error: how far accuracy and confidence lie apart in a bin, as a mean
    over images. Of few images it is too high, since a bin with few of them is right by chance more
    or less often than it should be.

    Args:
        confidences: (n,) probabilities of the predicted class.
        right: (n,) bool, whether it is the true one.
        groups: (n,) of any sortable type; images of equal value are drawn together.
        seed: Of the bootstrap.
    """
    n = len(confidences)
    unit = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(unit.max()) + 1
    # by how much the images of each unit are said to be right more often than they are, in each bin
    cell, excess = unit * BINS + _places(confidences), confidences.astype(np.float64) - right
    brought = np.bincount(cell, excess, units * BINS).reshape(units, BINS)
    gaps = brought.sum(0) / n
    # the means of the bins over drawn units, to first order: n differs from draw to draw
    influence = (brought - gaps * np.bincount(unit)[:, None]) / (n / units)
    spread = influence.T @ influence / units**2
    drawn = np.random.default_rng(seed).multivariate_normal(
        gaps, spread, RESAMPLES, check_valid="ignore"
    )
    return percentile(float(np.abs(gaps).sum()), np.abs(drawn).sum(1), n, units)


def reliability_section(metrics: Metrics, unit: str) -> Section:
    """The reliability diagram.

    Args:
        metrics: With `calibration` in their detail.
        unit: What was measured, in the plural.
    """
    found = metrics.detail["calibration"]
    bins = np.array(found["bins"])
    kept = bins[bins[:, 0] >= LEAST]
    lines = {"accuracy": [(float(x), float(y)) for _, x, y in kept]} if len(kept) else {}
    lines["perfect calibration"] = [(0.0, 0.0), (1.0, 1.0)]
    said, true = (float(bins[:, 0] @ bins[:, i] / bins[:, 0].sum()) for i in (1, 2))
    side = "above" if said > true else "below"
    low, high = found["error_interval"]
    hint = (
        f"The probability of the predicted class is {100 * said:.1f} % on average,"
        f" {100 * abs(said - true):.1f} points {side} the accuracy; expected calibration error"
        f" {100 * found['error']:.1f} % ({100 * low:.1f} to {100 * high:.1f}). Each point stands"
        f" for at least {LEAST} {unit} of about the same probability: where it lies below the"
        " diagonal, fewer of them are right than the probability says."
    )
    drawn = chart("Accuracy by probability", lines, True, "probability", (0.0, 1.0))
    return Section("lines", "Calibration", hint, {"charts": [drawn], "over": "probability"})


def _places(confidences: np.ndarray) -> np.ndarray:
    """(n,) number of the bin."""
    return np.minimum((confidences * BINS).astype(np.int64), BINS - 1)
