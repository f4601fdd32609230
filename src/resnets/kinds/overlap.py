"""How far boxes overlap, and which of them are the box of a thing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from resnets.kinds.prediction import Prediction

MATCH = 0.5  # overlap from which on a box is the one of a thing (Everingham et al. 2010)


def area_of(boxes: np.ndarray) -> np.ndarray:
    """(n,) areas of (n, 4) boxes; 0 where a side is none."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1])


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, m) intersection over union of (n, 4) with (m, 4) boxes."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.maximum(high - low, 0)
    common = sides[..., 0] * sides[..., 1]
    union = area_of(first)[:, None] + area_of(second)[None] - common
    return np.asarray(common / np.maximum(union, 1e-9))


class Matched(NamedTuple):
    """Which predicted boxes are the one of a thing.

    Args:
        thing: (n,) position of the thing that a box found, -1 where it found none.
        ignored: (n,) bool: it found a difficult one, which is neither right nor wrong.
        missed: (m,) bool: things, difficult ones apart, that no box found.
    """

    thing: np.ndarray
    ignored: np.ndarray
    missed: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """(n,) bool: boxes that found a thing."""
        return np.asarray(self.thing >= 0)


def matched(truth: Prediction, prediction: Prediction, least: float = 0.0) -> Matched:
    """Gives each predicted box, the highest score first, the thing of its class that it overlaps
    most and that is still free; by at least `MATCH`.

    Args:
        truth: Ground truth of an image.
        prediction: For it.
        least: Score from which on boxes count.
    """
    kept = prediction.scores >= least
    boxes, labels = prediction.boxes[kept], prediction.labels[kept]
    difficult = np.zeros(len(truth.labels), bool)
    difficult = difficult if truth.difficult is None else truth.difficult
    common = overlaps(boxes, truth.boxes) * (labels[:, None] == truth.labels[None])
    ignored = (common[:, difficult] >= MATCH).any(1)
    common[:, difficult] = 0
    thing = np.full(len(boxes), -1)
    for place in np.flatnonzero(common.max(1, initial=0) >= MATCH):
        best = int(common[place].argmax())
        if common[place, best] >= MATCH:
            thing[place] = best
            common[:, best] = 0
    missed = ~difficult
    missed[thing[thing >= 0]] = False
    return Matched(thing, ignored & (thing < 0), missed)
