"""Average precision of boxes as COCO defines it (Lin et al. 2014, arXiv:1405.0312; the rules are
those of pycocotools): which box is right, and what follows for precision over recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from resnets.kinds.overlap import area_of, overlaps

OVERLAPS = np.linspace(0.5, 0.95, 10)  # from which on a box counts as right, one after the other
RECALLS = np.linspace(0, 1, 101)  # at which precision is read off
# areas of things, in pixels: all, small, medium, large
AREAS = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
ALL = 0
CHUNK = 4_000_000  # numbers of a block of resamples that are in memory at a time


class Matches(NamedTuple):
    """Which boxes of one image are right, for each range of areas and each overlap.

    Args:
        right: (areas, overlaps, n) bool.
        ignored: (areas, overlaps, n) bool: neither right nor wrong.
        counted: (areas, m) bool: which things are to be found.
    """

    right: np.ndarray
    ignored: np.ndarray
    counted: np.ndarray


class Boxes(NamedTuple):
    """Boxes of one image: (n, 4) left, top, right, bottom in pixels, and (n,) positions of their
    classes."""

    boxes: np.ndarray
    labels: np.ndarray


def match(found: Boxes, things: Boxes, difficult: np.ndarray) -> Matches:
    """Gives each box the thing that it overlaps most and that no box before it took.

    Args:
        found: Highest score first.
        things: Ground truth.
        difficult: (m,) bool: things that may be found any number of times, and need not be.
    """
    area = area_of(things.boxes.astype(np.float64))
    low, high = np.array(AREAS).T[..., None]
    counted = (area >= low) & (area <= high) & ~difficult
    common = _common(found, things, difficult)
    shape = (len(AREAS), len(OVERLAPS), len(found.boxes))
    right, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    free = np.ones((*shape[:2], len(area)), bool)
    least = np.minimum(OVERLAPS, 1 - 1e-10)[None, :, None]
    for place in np.flatnonzero(common.max(1, initial=0) >= OVERLAPS[0]):
        fits = (common[place] >= least) & (free | difficult)
        among = fits & counted[:, None]
        hit = among.any(-1)
        among = np.where(hit[..., None], among, fits)  # what is not counted comes second
        # of equal overlaps the last one
        best = len(area) - 1 - np.where(among, common[place], -1.0)[..., ::-1].argmax(-1)
        taken = among.any(-1)
        right[..., place] = hit
        ignored[..., place] = taken & ~hit
        rows, columns = np.nonzero(taken)
        free[rows, columns, best[rows, columns]] = False
    size = area_of(found.boxes.astype(np.float64))
    outside = (size < low) | (size > high)
    ignored |= outside[:, None] & ~right & ~ignored
    return Matches(right, ignored, counted)


def _common(found: Boxes, things: Boxes, difficult: np.ndarray) -> np.ndarray:
    """(n, m) overlaps of boxes with things of their class; with a crowd, the part of the box."""
    boxes, truth = found.boxes.astype(np.float64), things.boxes.astype(np.float64)
    common = overlaps(boxes, truth)
    if difficult.any():
        area, other = area_of(boxes)[:, None], area_of(truth)[None]
        shared = common * (area + other) / (1 + common)
        common = np.where(difficult, shared / np.maximum(area, 1e-9), common)
    return common * (found.labels[:, None] == things.labels[None])


class Ranked(NamedTuple):
    """Boxes of one class in all images, highest score first.

    Args:
        images: (d,) which image each is in.
        scores: (d,).
        right: (overlaps, d) bool.
        ignored: (overlaps, d) bool.
        things: (images,) how many are to be found in each image.
    """

    images: np.ndarray
    scores: np.ndarray
    right: np.ndarray
    ignored: np.ndarray
    things: np.ndarray


def precisions(ranked: Ranked, drawn: np.ndarray) -> np.ndarray:
    """Average precision at each overlap, where images were drawn with replacement.

    Args:
        ranked: Of one class.
        drawn: (resamples, images), how often each image was drawn.

    Returns:
        (resamples, overlaps); NaN where there is nothing to find.
    """
    found = np.full((len(drawn), len(OVERLAPS)), np.nan)
    rows = max(1, CHUNK // max(1, len(ranked.images)))
    for start in range(0, len(drawn), rows):
        block = drawn[start : start + rows]
        total = block @ ranked.things
        weights = block[:, ranked.images].astype(np.float32)
        for number, (right, ignored) in enumerate(zip(ranked.right, ranked.ignored, strict=True)):
            found[start : start + rows, number] = _areas_below(weights, right, ignored, total)
    return found


def _areas_below(
    weights: np.ndarray, right: np.ndarray, ignored: np.ndarray, total: np.ndarray
) -> np.ndarray:
    """(resamples,) areas below precision over recall."""
    recall, precision = _curve(weights, right, ignored, total)
    areas = np.full(len(weights), np.nan)
    for row in np.flatnonzero(total > 0):
        at = np.searchsorted(recall[row], RECALLS, side="left")
        values = np.append(precision[row], 0.0)
        areas[row] = values[np.minimum(at, len(values) - 1)].mean()
    return areas


def _curve(
    weights: np.ndarray, right: np.ndarray, ignored: np.ndarray, total: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision, (resamples, hits) each, at every box that is right: only there does
    recall rise. Precision is the highest at this recall or a higher one."""
    judged = (~ignored).astype(np.float32)
    seen = (weights * judged).cumsum(1, dtype=np.float64)[:, right]
    hits = weights[:, right].cumsum(1, dtype=np.float64)
    recall = hits / np.maximum(total, 1)[:, None]
    precision = hits / np.maximum(seen, 1e-12)
    return recall, np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]


def precision_over_recall(ranked: Sequence[Ranked]) -> np.ndarray:
    """(classes, recalls) precision at each of `RECALLS`, at the first of `OVERLAPS`; NaN for
    classes with nothing to find."""
    found = np.full((len(ranked), len(RECALLS)), np.nan)
    for number, one in enumerate(ranked):
        total = one.things.sum(keepdims=True)
        if total[0]:
            weights = np.ones((1, len(one.images)), np.float32)
            at_hits = one.right[0], one.ignored[0]
            recall, precision = _curve(weights, *at_hits, total)
            at = np.searchsorted(recall[0], RECALLS, side="left")
            values = np.append(precision[0], 0.0)
            found[number] = values[np.minimum(at, len(values) - 1)]
    return found
