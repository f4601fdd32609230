"""What makes boxes of scores: the highest peaks. Here in NumPy, to prove what an exported graph
does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from resnets.kinds.kind import Difference
from resnets.kinds.prediction import Outputs

FOUND = 100  # boxes of an image at most
TOLERANCE = 1e-3  # pixels, of the same arithmetic done twice


def decode(score_map: np.ndarray, box_map: np.ndarray) -> tuple[np.ndarray, ...]:
    """What the graph does with what is said of each place of one image: the highest peaks.

    Args:
        score_map: (classes, h, w) float32.
        box_map: (4, h, w) float32.

    Returns:
        Boxes (n, 4), scores (n,) falling and labels (n,) of the `FOUND` highest places at which no
        neighbour of the same class scores higher.
    """
    height, width = score_map.shape[1:]
    framed = np.pad(score_map, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    highest = score_map
    for down in range(3):
        for across in range(3):
            around = framed[:, down : down + height, across : across + width]
            highest = np.maximum(highest, around)
    scores = np.where(score_map == highest, score_map, np.float32(0)).ravel()
    order = np.argsort(-scores, kind="stable")[:FOUND]
    places = order % (height * width)
    return box_map.reshape(4, -1).T[places], scores[order], order // (height * width)


def differences(found: Outputs, expected: Outputs, options: Mapping[str, Any]) -> Difference:
    """Lists of boxes cannot be compared, since rounding swaps near-equal ones. Instead: the largest
    difference of a score and of a side (pixels) at any place before peaks are taken; and boxes of
    the engine that are not what NumPy makes of the engine's own places."""
    values: dict[str, float] = {}
    for name, difference in (("score_map", "score"), ("box_map", "side")):
        values[difference] = float(np.abs(found[name] - expected[name]).max())
    wrong = [
        _undecoded(
            *(found[name][place] for name in ("score_map", "box_map", "boxes", "scores", "labels"))
        )
        for place in range(len(found["boxes"]))
    ]
    values["decoding"] = float(sum(wrong))
    return Difference(values, wrong.count(0))


def _undecoded(
    score_map: np.ndarray,
    box_map: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
) -> int:
    """How many boxes of an engine for one image are not those of its own places. The image is not
    scaled; its border is where boxes were cut."""
    own_boxes, own_scores, own_labels = decode(score_map, box_map)
    if own_scores.shape != scores.shape or (np.diff(scores) > 0).any():
        return len(scores)
    own_boxes = np.clip(own_boxes, 0, np.tile(boxes[:, 2:].max(0, initial=0), 2))
    # of equal scores each may come first, and at the end of the list any
    certain = int((own_scores > own_scores[-1]).sum())
    wrong = int((own_scores != scores).sum())
    first, second = (
        _sorted(values[0][:certain], values[1][:certain], values[2][:certain])
        for values in ((own_boxes, own_scores, own_labels), (boxes, scores, labels))
    )
    return wrong + int((np.abs(first - second) > TOLERANCE).any(1).sum())


def _sorted(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n, 5) label and box in an order that does not depend on how ties were broken."""
    order = np.lexsort((*np.round(boxes.T, 1)[::-1], labels, -scores))
    return np.concatenate([labels[:, None], boxes], 1)[order]
