"""What is wrong with the boxes of a data set, found by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from resnets.kinds.overlap import overlaps
from resnets.kinds.sample import Finding, Sample
from resnets.listing import counted
from resnets.settings import listed

NAMED = 3  # files that are named in a line
MANY = 0.3  # part of the boxes from which on a fault is one of the layout, not of an annotator
BEYOND = 2.0  # pixels beyond the border that are no mistake: rounding, and counting from 1
SAME = 0.95  # overlap of two boxes of a class that are one
TINY = 3.0  # pixels of a side


class _Boxes(NamedTuple):
    """All boxes of a data set.

    Args:
        images: (n,) position of the image of each.
        boxes: (n, 4) left, top, right, bottom in pixels.
        sizes: (n, 2) width and height of the image of each.
    """

    images: np.ndarray
    boxes: np.ndarray
    sizes: np.ndarray


def check(samples: Sequence[Sample], sizes: Sequence[tuple[int, int]]) -> list[Finding]:
    """Boxes that cannot be meant so: relative, swapped, empty, outside, tiny, twice.

    Args:
        samples: With their annotations.
        sizes: Width and height of each image, upright.
    """
    every = _collect(samples, sizes)
    names = [sample.name for sample in samples]
    if not len(every.boxes):
        return [Finding("error", "no image has a box, so that there is nothing to learn")]
    if (every.boxes <= 1).all():
        text = (
            "all boxes lie in the first pixel of their images: coordinates from 0 to 1 are parts of"
            " the image; multiply them by its width and height, or save them as YOLO"
        )
        return [Finding("error", text)]
    left, top, right, bottom = every.boxes.T
    empty = (right <= left) | (bottom <= top)
    outside = _outside(every.boxes, every.sizes)
    if empty.mean() > MANY:
        text = (
            f"{empty.mean():.0%} of the boxes end before they begin (right and bottom are not"
            " beyond left and top): perhaps the last two numbers are width and height"
        )
        return [Finding("error", text)]
    turned = every.boxes[:, [1, 0, 3, 2]]
    if outside.mean() > MANY and _outside(turned, every.sizes).mean() < MANY / 3:
        text = (
            f"{outside.mean():.0%} of the boxes reach beyond their images, and would not with x and"
            " y exchanged: the order is left, top, right, bottom"
        )
        return [Finding("error", text)]
    tiny = ~empty & (np.minimum(right - left, bottom - top) < TINY)
    faults = [
        ("warning", "box", "without any area, left out", empty),
        ("warning", "box", "that reaches beyond its image, cut at the border", outside & ~empty),
        ("note", "box", f"less than {TINY:g} pixels wide or high", tiny),
    ]
    findings = [
        _finding(severity, noun, text, fault, every.images, names)
        for severity, noun, text, fault in faults
        if fault.any()
    ]
    findings += _twice(every, samples)
    if bare := sum(not sample.annotations for sample in samples):
        findings.append(Finding("note", f"{counted(bare, 'image')} without a box, kept as such"))
    return findings


def _collect(samples: Sequence[Sample], sizes: Sequence[tuple[int, int]]) -> _Boxes:
    rows = [
        (place, one.box, size)
        for place, (sample, size) in enumerate(zip(samples, sizes, strict=True))
        for one in sample.annotations
        if one.box is not None
    ]
    images, boxes, of = zip(*rows, strict=True) if rows else ((), (), ())
    return _Boxes(
        np.array(images, np.int64),
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(of, np.float64).reshape(-1, 2),
    )


def _outside(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(n,) bool: whether a box reaches clearly beyond its image."""
    beyond = np.maximum(boxes[:, [2, 3]] - sizes, -boxes[:, :2])
    return np.asarray((beyond > BEYOND).any(1))


def _finding(
    severity: str, noun: str, text: str, fault: np.ndarray, images: np.ndarray, names: list[str]
) -> Finding:
    files = [names[place] for place in dict.fromkeys(images[fault].tolist())]
    amount = int(fault.sum())
    many = f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}es"
    said = (
        text
        if amount == 1
        else text.replace("its image", "their images").replace("reaches", "reach")
    )
    return Finding(severity, f"{many} {said}: {listed(files, NAMED)}", tuple(files))


def _twice(every: _Boxes, samples: Sequence[Sample]) -> list[Finding]:
    """Boxes that an image has twice."""
    files, pairs = list[str](), 0
    for place in np.unique(every.images):
        labels = np.array([one.label for one in samples[place].annotations if one.box is not None])
        boxes = every.boxes[every.images == place]
        common = np.triu(overlaps(boxes, boxes), 1) * (labels[:, None] == labels[None])
        if count := int((common > SAME).sum()):
            pairs += count
            files.append(samples[place].name)
    if not pairs:
        return []
    text = f"{counted(pairs, 'pair')} of boxes that are the same thing twice"
    return [Finding("warning", f"{text}: {listed(files, NAMED)}", tuple(files))]
