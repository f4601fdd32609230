"""How a classifier is judged: evidence, numbers, doubts, and the page that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from resnets.evaluation.accuracy import measure
from resnets.evaluation.confusion import (
    STRANGENESS,
    SUSPICION,
    baseline,
    choose_cases,
    sections,
)
from resnets.evaluation.evaluator import Evaluator, Quick
from resnets.evaluation.majority import doubts, stuck
from resnets.evaluation.metrics import Metrics
from resnets.kinds.prediction import Cell, Prediction


class ClassEvidence(NamedTuple):
    """What is kept of one image."""

    label: int
    probabilities: np.ndarray


def compare(truth: Prediction, prediction: Prediction) -> ClassEvidence:
    """The true class, and what the network said."""
    return ClassEvidence(truth.index, prediction.probabilities)


def _stacked(evidence: Sequence[ClassEvidence]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, k) and labels (n,)."""
    labels = np.array([one.label for one in evidence], np.int64)
    return np.stack([one.probabilities for one in evidence]), labels


def quick(evidence: Sequence[ClassEvidence]) -> Quick:
    """Accuracy and loss, in the precision of the network."""
    probabilities, labels = _stacked(evidence)
    accuracy = float((probabilities.argmax(1) == labels).mean())
    own = probabilities[np.arange(len(labels)), labels]
    return Quick(accuracy, float(-np.log(np.maximum(own, 1e-12)).mean()))


def measure_evidence(
    evidence: Sequence[ClassEvidence], classes: Sequence[str], groups: np.ndarray | None
) -> Metrics:
    """See `measure`."""
    return measure(*_stacked(evidence), classes, groups)


def worst(evidence: Sequence[ClassEvidence]) -> np.ndarray:
    """See `choose_cases`."""
    return choose_cases(*_stacked(evidence))


def row(truth: Prediction, prediction: Prediction) -> dict[str, Cell]:
    """Of predictions.csv."""
    return {
        "label": truth.label,
        "predicted": prediction.label,
        "probability": f"{prediction.probability:.6f}",
        "label_probability": f"{prediction.probabilities[truth.index]:.6f}",
        **({} if prediction.familiar is None else {"familiar": f"{prediction.familiar:.6f}"}),
    }


def is_right(one: ClassEvidence) -> bool:
    """Whether the most probable class is the true one."""
    return bool(one.probabilities.argmax() == one.label)


EVALUATOR = Evaluator(
    main="accuracy",
    compare=compare,
    quick=quick,
    measure=measure_evidence,
    worst=worst,
    sections=sections,
    row=row,
    doubts=doubts,
    model="Image classifier",
    caution="It always predicts one of its classes, also for an image of something else, which the"
    " column `familiar` tells, where there is one",
    baseline=baseline,
    stuck=stuck,
    right=is_right,
    suspicion=SUSPICION,
    strangeness=STRANGENESS,
)
