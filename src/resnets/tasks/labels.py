"""Any number of labels for an image: a sigmoid and a threshold for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.kinds import Kind
from resnets.kinds.labels import LABELS, THRESHOLD
from resnets.kinds.prediction import Prediction
from resnets.tasks.classes import Classification, ImageInference
from resnets.tasks.task import Limit, Targets

# No threshold lies nearer to 0 or 1: many images may differ there by less than engines do
EDGE = 1e-3
FEW = 5  # validation images of a label, below which it takes the threshold of all labels together


@dataclass(frozen=True)
class MultiLabel(Classification):
    """Any number of labels for each image, with the network of classes; see `tasks.task.Task`.

    Args:
        smoothing: How far targets are moved from 0 and 1 towards one half.
        thresholds: From which probability on each label is given; empty until they are chosen.
    """

    kind: ClassVar[Kind] = LABELS
    criteria: ClassVar[tuple[str, ...]] = ("bce",)
    limits: ClassVar[dict[str, Limit]] = {
        "loss": Limit((None, "bce"), "any number of labels may be true"),
        "balance": Limit(("none",), "its images have no single class"),
    }

    criterion: str = "bce"
    thresholds: tuple[float, ...] = ()

    def collate(self, truths: Sequence[Prediction]) -> Targets:
        """`labels` (N, classes) float32 of 0 and 1."""
        return {"labels": torch.from_numpy(np.stack([truth.probabilities for truth in truths]))}

    def loss(self, raw: Tensor, targets: Targets) -> dict[str, Tensor]:
        """`loss`: binary cross-entropy, summed over labels, so that a logit is moved as far as by
        the cross-entropy of classes, whatever the number of labels is."""
        labels = targets["labels"] * (1 - self.smoothing) + self.smoothing / 2
        each = F.binary_cross_entropy_with_logits(raw, labels, reduction="none")
        return {"loss": each.sum(1).mean()}

    def inference(self, net: nn.Module) -> nn.Module:
        """The network with a sigmoid; see `ImageInference`."""
        return ImageInference(net, torch.sigmoid)

    def settle(self, judged: Iterable[tuple[Prediction, Prediction]]) -> Self:
        """With the thresholds that give the best F1 on these images."""
        pairs = [(truth.given, prediction.probabilities) for truth, prediction in judged]
        truths, probabilities = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
        return replace(self, thresholds=tuple(best_thresholds(truths, probabilities)))


def best_thresholds(truth: np.ndarray, probabilities: np.ndarray) -> list[float]:
    """The thresholds at which the F1 of each label is highest.

    Args:
        truth: (n, classes) bool, from images that were not trained on.
        probabilities: (n, classes) float32.

    Returns:
        A threshold for each label. It lies midway between two probabilities, so that no rounding
        of an engine moves an image across it.
    """
    common = best_threshold(truth.ravel(), probabilities.ravel())
    return [
        best_threshold(truth[:, label], probabilities[:, label])
        if truth[:, label].sum() >= FEW
        else common
        for label in range(truth.shape[1])
    ]


def best_threshold(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """The threshold of one label, (n,) each; of several that are equally good the one with most
    room on both sides. 0.5 without a positive image, or where all probabilities are below `EDGE`:
    there is none to choose."""
    order = np.argsort(-probabilities, kind="stable")
    scores = np.append(probabilities[order].astype(np.float64), 0.0)
    room = scores[:-1] - scores[1:]  # between an image and the next one; equal ones stay together
    middle = (scores[:-1] + scores[1:]) / 2
    possible = (room > 0) & (middle >= EDGE) & (middle <= 1 - EDGE)
    if not truth.any() or not possible.any():
        return THRESHOLD
    hits = np.cumsum(truth[order])
    f1 = np.where(possible, 2 * hits / (np.arange(1, len(order) + 1) + truth.sum()), -1)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    cut = best[room[best].argmax()]
    between = np.float32(middle[cut])
    # Between neighbouring numbers there is none; rounded down it would give the label to both.
    return float(between if between > scores[cut + 1] else scores[cut])
