"""Numbers of a classifier of videos: those of classes for whole videos, whose probabilities are the
mean of those of their clips; and the accuracy of single clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from resnets.evaluation import classes as of_classes
from resnets.evaluation import confusion
from resnets.evaluation.classes import ClassEvidence
from resnets.evaluation.evaluator import Quick
from resnets.evaluation.metrics import Metrics
from resnets.kinds.prediction import Cell, Prediction

UNIT = "videos"


class ClipEvidence(NamedTuple):
    """What is kept of one prediction: (clips, classes) probabilities of one video."""

    label: int
    probabilities: np.ndarray
    video: str


def compare(truth: Prediction, prediction: Prediction) -> ClipEvidence:
    """The true class, what the network said, and of which video."""
    windows = prediction.windows or (prediction,)
    probabilities = np.stack([window.probabilities for window in windows])
    return ClipEvidence(truth.index, probabilities, truth.file)


def by_video(evidence: Sequence[ClipEvidence]) -> tuple[list[ClassEvidence], np.ndarray]:
    """The evidence of each video, in the order in which they first occur, and (videos,) where each
    first occurs."""
    clips: dict[str, list[np.ndarray]] = {}
    firsts: dict[str, int] = {}
    for place, one in enumerate(evidence):
        firsts.setdefault(one.video, place)
        clips.setdefault(one.video, []).append(one.probabilities)
    return [
        ClassEvidence(evidence[firsts[video]].label, np.concatenate(own).mean(0))
        for video, own in clips.items()
    ], np.array(list(firsts.values()))


def by_clip(evidence: Sequence[ClipEvidence]) -> tuple[list[ClassEvidence], np.ndarray]:
    """The evidence of each clip, and (clips,) the place of the prediction that it is of."""
    places = [place for place, one in enumerate(evidence) for _ in one.probabilities]
    clips = [ClassEvidence(one.label, row) for one in evidence for row in one.probabilities]
    return clips, np.array(places)


def quick(evidence: Sequence[ClipEvidence]) -> Quick:
    """Accuracy and loss of videos."""
    return of_classes.quick(by_video(evidence)[0])


def measure_evidence(
    evidence: Sequence[ClipEvidence], classes: Sequence[str], groups: np.ndarray | None
) -> Metrics:
    """See `of_classes.measure`: of videos, with intervals from drawing whole videos, or groups of
    them."""
    (videos, firsts), (clips, places) = by_video(evidence), by_clip(evidence)
    own = None if groups is None else groups[firsts]
    metrics = of_classes.measure_evidence(videos, classes, own)
    units = np.array([one.video for one in evidence]) if groups is None else groups
    of_clips = of_classes.measure_evidence(clips, classes, units[places])
    return replace(
        metrics, numbers={**metrics.numbers, "clip_accuracy": of_clips.numbers["accuracy"]}
    )


def _mean(one: ClipEvidence) -> ClassEvidence:
    """Of all clips of a prediction."""
    return ClassEvidence(one.label, one.probabilities.mean(0))


def worst(evidence: Sequence[ClipEvidence]) -> np.ndarray:
    """See `confusion.choose_cases`: at most one clip of a prediction."""
    return of_classes.worst([_mean(one) for one in evidence])


def is_right(one: ClipEvidence) -> bool:
    """Whether the class that is most probable over all clips is the true one."""
    return of_classes.is_right(_mean(one))


def row(truth: Prediction, prediction: Prediction) -> dict[str, Cell]:
    """Of predictions.csv."""
    start, end = truth.span or (None, None)
    return {"start": start, "end": end, **of_classes.row(truth, prediction)}


EVALUATOR = replace(
    of_classes.EVALUATOR,
    compare=compare,
    quick=quick,
    measure=measure_evidence,
    worst=worst,
    right=is_right,
    row=row,
    sections=partial(confusion.sections, unit=UNIT),
    model="Video classifier",
    caution="It always predicts one of its classes, also for a video of something else",
    unit=UNIT,
    pipeline="video-classification",
)
