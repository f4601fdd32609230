"""Boxes around things, each with a class and a score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from PIL import Image

from resnets.kinds.box_faults import check
from resnets.kinds.classes import CLASSES, place_of
from resnets.kinds.drawing import draw_boxes
from resnets.kinds.kind import Output
from resnets.kinds.overlap import area_of
from resnets.kinds.peaks import differences
from resnets.kinds.prediction import Cell, Outputs, Prediction, Share
from resnets.kinds.sample import Sample
from resnets.kinds.view import View

LEFT_OVER = 0.25  # of the area of a box that must be seen for it to count as seen
THRESHOLD = 0.3  # of scores, where none was chosen


class Thing(NamedTuple):
    """One thing that was found: its class, its score, and its box in pixels of the image."""

    label: str
    score: float
    box: tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True, eq=False, repr=False)
class BoxPrediction(Prediction):
    """The things in one image.

    Args:
        file: The image, as it was named.
        classes: Names of the classes.
        boxes: (n, 4) float32 left, top, right, bottom in pixels of the upright image, from its edge
            on; None for a file that could not be read.
        labels: (n,) int64, positions among the classes.
        scores: (n,) float32 from 0 to 1, falling; 1 in ground truth.
        difficult: (n,) bool, of ground truth: neither right nor wrong to find.
        threshold: The score from which on a box is given; all are measured.
        error: Why there is no prediction.
        notes: What was done to read the image.
    """

    columns: ClassVar[Mapping[str, type]] = {
        "number": int,
        "of": int,
        "label": str,
        "score": Share,
        "left": float,
        "top": float,
        "right": float,
        "bottom": float,
    }
    keys: ClassVar[tuple[str, ...]] = ("boxes",)
    has_places: ClassVar[bool] = True

    boxes: np.ndarray | None = None
    labels: np.ndarray | None = None
    scores: np.ndarray | None = None
    difficult: np.ndarray | None = None
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if (self.boxes is None) == (self.error is None):
            raise ValueError(f"{self.file}: a prediction has either boxes or an error")
        if self.boxes is None:
            return
        count = len(self.boxes)
        for name, shape in (("boxes", (count, 4)), ("labels", (count,)), ("scores", (count,))):
            found = getattr(self, name)
            if found is None or found.shape != shape:
                got = None if found is None else found.shape
                raise ValueError(f"{self.file}: {name} of shape {got}; {shape} was expected")

    @property
    def found(self) -> tuple[Thing, ...]:
        """What is given, the highest score first."""
        if self.boxes is None or self.labels is None or self.scores is None:
            return ()
        sides = (self.boxes[:, side].tolist() for side in range(4))
        return tuple(
            Thing(self.classes[label], score, box)
            for label, score, box in zip(
                self.labels.tolist(), self.scores.tolist(), zip(*sides, strict=True), strict=True
            )
            if score >= self.threshold
        )

    def summary(self) -> str:
        """See `Prediction`."""
        counts = Counter(thing.label for thing in self.found)
        return ", ".join(f"{count} {label}" for label, count in counts.items()) or "nothing"

    def rows(self) -> list[dict[str, Cell]]:
        """A row for each box that is given; one with `of` 0 where there is none."""
        if self.error is not None:
            return [dict.fromkeys(self.columns)]
        things = self.found
        if not things:
            return [{**dict.fromkeys(self.columns), "number": 0, "of": 0}]
        sides = ("left", "top", "right", "bottom")
        return [
            {
                "number": number,
                "of": len(things),
                "label": thing.label,
                "score": thing.score,
                **dict(zip(sides, thing.box, strict=True)),
            }
            for number, thing in enumerate(things, 1)
        ]

    def to_dict(self) -> dict[str, Any]:
        """See `Prediction`: `boxes`, a list of objects."""
        things = [{**thing._asdict(), "box": list(thing.box)} for thing in self.found]
        return {"boxes": None if self.error is not None else things}

    def seen(self, view: View) -> Self:
        """The boxes of which at least a quarter is seen, cut at the border."""
        if self.boxes is None:
            return self
        whole = view.boxes(self.boxes.astype(np.float64))
        height, width = view.size
        cut = np.clip(whole, 0, [width, height, width, height])
        kept = area_of(cut) >= LEFT_OVER * np.maximum(area_of(whole), 1e-9)
        kept &= area_of(cut) > 0
        assert self.labels is not None
        assert self.scores is not None
        return replace(
            self,
            boxes=cut[kept].astype(np.float32),
            labels=self.labels[kept],
            scores=self.scores[kept],
            difficult=None if self.difficult is None else self.difficult[kept],
        )

    def drawn(self, image: Image.Image) -> Image.Image:
        """Boxes with names; of what is not certain also the score."""
        things = [
            (thing.box, self.classes.index(thing.label), thing.label, thing.score)
            for thing in reversed(self.found)  # the highest score on top
        ]
        return draw_boxes(image, things)


def ground_truth(samples: Sequence[Sample], classes: tuple[str, ...]) -> list[Prediction]:
    """Samples with any number of boxes, as predictions that are certain.

    Raises:
        ValueError: A class that the model does not know.
    """
    truths: list[Prediction] = []
    for sample in samples:
        things = [one for one in sample.annotations if one.box is not None and _is_sound(one.box)]
        truths.append(
            BoxPrediction(
                sample.name,
                classes,
                boxes=np.array([one.box for one in things], np.float32).reshape(-1, 4),
                labels=np.array([place_of(one.label, classes) for one in things], np.int64),
                scores=np.ones(len(things), np.float32),
                difficult=np.array([one.difficult for one in things], bool),
            )
        )
    return truths


def _is_sound(box: tuple[float, float, float, float]) -> bool:
    return box[2] > box[0] and box[3] > box[1]


def unbatch(
    outputs: Outputs, files: Sequence[str], classes: tuple[str, ...], options: Mapping[str, Any]
) -> list[Prediction]:
    """Outputs of a network for some images to a prediction for each; boxes of no area are left
    out."""
    predictions: list[Prediction] = []
    for file, boxes, scores, labels in zip(
        files, outputs["boxes"], outputs["scores"], outputs["labels"], strict=True
    ):
        kept = (scores > 0) & (area_of(boxes) > 0)
        order = np.argsort(-scores[kept], kind="stable")
        predictions.append(
            BoxPrediction(
                file,
                classes,
                boxes=boxes[kept][order].astype(np.float32),
                labels=labels[kept][order].astype(np.int64),
                scores=scores[kept][order].astype(np.float32),
                threshold=options["threshold"],
            )
        )
    return predictions


def options(values: Mapping[str, Any], classes: Sequence[str]) -> Mapping[str, Any]:
    """`threshold`, the score from which on a box is given.

    Raises:
        ValueError: It is no number from 0 to 1.
    """
    threshold = values.get("threshold", THRESHOLD)
    if type(threshold) not in (int, float) or not 0 <= threshold <= 1:
        raise ValueError(f"threshold: {threshold!r:.60}; a number from 0 to 1 is needed")
    return {"threshold": float(threshold)}


# int8, bfloat16: about four times what
# `python benchmarks/proof_limits.py BCCD/ --form PRECISION BCCD.onnx` finds: 0.012 and 0.011 of a
# score, 1.0 and 1.4 pixels of a side
BOXES = replace(
    CLASSES,
    name="boxes",
    prediction=BoxPrediction,
    outputs={
        "boxes": Output("N, found, 4", place="points"),
        "scores": Output("N, found"),
        "labels": Output("N, found"),
        "score_map": Output("N, classes, h, w", always=False, golden=True),
        "box_map": Output("N, 4, h, w", always=False, golden=True),
    },
    fits=("pad", "stretch"),
    fewest_classes=1,
    limits={
        "float32": {"score": 0.005, "side": 0.5, "decoding": 0.5},
        "any": {"score": 0.02, "side": 1.0, "decoding": 0.5},
        "int8": {"score": 0.05, "side": 5.0, "decoding": 0.5},
        "bfloat16": {"score": 0.05, "side": 5.0, "decoding": 0.5},
    },
    options=options,
    check=check,
    ground_truth=ground_truth,
    unbatch=unbatch,
    differences=differences,
)
