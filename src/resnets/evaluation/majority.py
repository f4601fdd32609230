"""Whether a classifier says more than the largest class alone would give."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from resnets.evaluation.evaluator import Evidence, Rows
from resnets.evaluation.metrics import wilson

LATE = 10  # rows of training at the end
CLEARLY = 3  # standard errors between the largest class's share and a network that has learnt


def doubts(rows: Rows, evidence: Sequence[Evidence], classes: Sequence[str]) -> list[str]:
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
        batches = [one for row in rows if (one := row.get("train_accuracy")) is not None]
        if batches and (known := float(np.mean(batches[-LATE:]))) > (1 + share) / 2:
            return [
                f"the validation accuracy never rose clearly above {best:.1%}, and {alone}, while"
                f" that on training images came to {known:.1%}: what was learnt does not carry over"
                " to other images. Perhaps there are too few, the labels are wrong, or the"
                " statistics of BatchNorm do not fit the images (--norms train)"
            ]
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


def stuck(rows: Rows, evidence: Sequence[Evidence]) -> bool:
    """Whether no accuracy is above the interval of the largest class's share."""
    labels = np.array([one.label for one in evidence])
    share = wilson(int(np.bincount(labels).max()), len(labels))
    reached = (row.get(name) for row in rows for name in ("val_accuracy", "val_accuracy_ema"))
    return all(value is None or value <= share.high for value in reached)
