"""One label for a clip of a video, out of several classes that exclude one another; and for a
video, from those of its clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from resnets.kinds.classes import CLASSES, ClassPrediction, class_truth
from resnets.kinds.kind import Output
from resnets.kinds.prediction import Cell, Outputs, Prediction, Share
from resnets.kinds.sample import Sample, Span


@dataclass(frozen=True, eq=False, repr=False)
class ClipPrediction(ClassPrediction):
    """The class of a window of a video, or of a whole one.

    Args:
        span: Begin and end in seconds; None where that is not known, as of a file that could not be
            read.
        windows: What a prediction for a whole video is the mean of.
    """

    columns: ClassVar[Mapping[str, type]] = {
        "start": float,
        "end": float,
        "label": str,
        "probability": Share,
        "number": int,
        "of": int,
    }
    further: ClassVar[Mapping[str, type]] = {}
    keys: ClassVar[tuple[str, ...]] = ("start", "end", "label", "probability", "windows")

    span: Span | None = field(default=None, kw_only=True)
    windows: tuple[ClipPrediction, ...] = field(default=(), kw_only=True)

    def rows(self) -> list[dict[str, Cell]]:
        """A row for each window, then one for the video; for one window, one row."""
        parts = (*self.windows, self) if len(self.windows) > 1 else (self,)
        return [part._row(number, len(parts)) for number, part in enumerate(parts, 1)]

    def _row(self, number: int, of: int) -> dict[str, Cell]:
        return {**_as_object(self), "number": number, "of": of}

    def to_dict(self) -> dict[str, Any]:
        """See `Prediction`: of the video, and `windows`, a list of the same of each."""
        windows = [_as_object(window) for window in self.windows]
        return {**_as_object(self), "windows": None if self.error is not None else windows}

    def at(self, second: float) -> Self:
        """The first window that does not end before a moment; the last one after all."""
        later = (one for one in self.windows if one.span is not None and one.span[1] > second)
        found = next(later, self.windows[-1] if self.windows else self)
        assert isinstance(found, type(self))
        return found

    def light(self) -> Self:
        """Without its windows."""
        return replace(self, windows=())

    @classmethod
    def joined(cls, parts: Sequence[Self], spans: Sequence[Span]) -> Self:
        """The mean of the probabilities of all windows."""
        windows = tuple(replace(part, span=span) for part, span in zip(parts, spans, strict=True))
        every = np.array([part.probabilities for part in parts], np.float32)
        mean = np.asarray(every.mean(0))
        whole = (min(begin for begin, _ in spans), max(end for _, end in spans))
        first = parts[0]
        return cls(first.file, first.classes, mean, span=whole, windows=windows)


def _as_object(prediction: ClipPrediction) -> dict[str, Any]:
    start, end = prediction.span or (None, None)
    return {"start": start, "end": end, **ClassPrediction.rows(prediction)[0]}


def ground_truth(samples: Sequence[Sample], classes: tuple[str, ...]) -> list[Prediction]:
    """Samples with one label each, as predictions that are certain.

    Raises:
        ValueError: A class that the model does not know, or none or several in one sample.
    """
    return [
        ClipPrediction(sample.name, classes, class_truth(sample, classes), span=sample.span)
        for sample in samples
    ]


def unbatch(
    outputs: Outputs, files: Sequence[str], classes: tuple[str, ...], options: Mapping[str, Any]
) -> list[Prediction]:
    """Outputs of a network for some clips to a prediction for each."""
    return [
        ClipPrediction(file, classes, probabilities)
        for file, probabilities in zip(files, outputs["probabilities"], strict=True)
    ]


CLIPS = replace(
    CLASSES,
    name="clips",
    prediction=ClipPrediction,
    takes="clip",
    outputs={"probabilities": Output("N, classes", golden=True)},
    # TASKS: ten times what benchmarks find in float32; a clip in the other order is far beyond it.
    # int8, bfloat16: ten times what
    # `python benchmarks/proof_limits.py motions/ --form PRECISION motions.onnx` finds: 0.0029 and
    # 0.0051, for a network that is sure of nearly every clip
    limits={
        "float32": {"probability": 1e-3},
        "any": {"probability": 1e-3},
        "int8": {"probability": 0.05},
        "bfloat16": {"probability": 0.05},
    },
    ground_truth=ground_truth,
    unbatch=unbatch,
)
