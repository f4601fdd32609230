"""How a classifier is judged: evidence, numbers, doubts, and the page that shows them."""

from __future__ import annotations

import math
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
from resnets.evaluation.evaluator import Evaluator, Quick, Rows
from resnets.evaluation.metrics import Metrics
from resnets.kinds.prediction import Cell, Prediction

CLEARLY = 3  # standard errors between the largest class's share and a network that has learnt


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


def doubts(rows: Rows, evidence: Sequence[ClassEvidence], classes: Sequence[str]) -> list[str]:
    """Sentences on accuracies that the largest class alone would give; none where the network has
    learnt something and kept it.

    Args:
        rows: Of results.csv.
        evidence: Of the validation images.
        classes: Their names.
    """
    labels = np.array([one.label for one in evidence])
    counts = np.bincount(labels, minlength=len(classes))
    share = float(counts.max() / len(labels))
    error = math.sqrt(share * (1 - share) / len(labels))
    pairs = [(row.get("val_accuracy"), row.get("val_accuracy_ema")) for row in rows]
    reached = [[value for value in pair if value is not None] for pair in pairs]
    reached = [values for values in reached if values]
    if not reached:
        return []
    best, last = max(map(max, reached)), max(reached[-1])
    alone = (
        f"the largest class, {classes[int(counts.argmax())]}, makes up {share:.1%} of the images"
    )
    causes = (
        "the learning rate is too high or too low (--lr), the run too short, the labels wrong, or"
        " the statistics of BatchNorm do not fit the images (--norms train)"
    )
    if best <= share + error:
        return [
            f"the validation accuracy never rose clearly above {best:.1%}, and {alone}: the network"
            f" has learnt next to nothing. Perhaps {causes}"
        ]
    if last <= share + error and best > share + CLEARLY * error:
        return [
            f"the validation accuracy fell from {best:.1%} to {last:.1%} at the end, and {alone}:"
            f" the training collapsed, and the best weights are from before. Perhaps {causes}"
        ]
    return []


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
    right=is_right,
    suspicion=SUSPICION,
    strangeness=STRANGENESS,
)
