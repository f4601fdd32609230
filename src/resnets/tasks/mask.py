"""A class for each pixel: the stages of a backbone added up, with a loss in which a thin or rare
class weighs as much as the sky."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.kinds import Kind
from resnets.kinds.mask import MASK
from resnets.kinds.prediction import Prediction
from resnets.kinds.view import NOT_JUDGED
from resnets.models import Network
from resnets.tasks.dense import Dense, DenseTask
from resnets.tasks.task import Targets


@dataclass(frozen=True)
class Segmentation(DenseTask):
    """A class for each pixel; see `tasks.task.Task`."""

    kind: ClassVar[Kind] = MASK

    def build(self, network: Network, classes: int) -> nn.Module:
        """Logits of each class at the finest map."""
        return Dense(network, classes, depth=2)

    def collate(self, truths: Sequence[Prediction]) -> Targets:
        """`mask` (N, H, W) int64 in pixels of the input, 255 where nothing is known."""
        masks = np.stack([truth.mask for truth in truths])
        return {"mask": torch.from_numpy(masks.astype(np.int64))}

    def loss(self, raw: Tensor, targets: Targets) -> dict[str, Tensor]:
        """`loss`, and the pixels that are right, as a sum over images of their part:
        `pixel_accuracy`. Raw output (N, classes, h, w)."""
        mask = targets["mask"]
        judged = mask != NOT_JUDGED
        logits = F.interpolate(raw.float(), size=mask.shape[-2:], mode="bilinear")
        right = ((logits.detach().argmax(1) == mask) & judged).sum((1, 2))
        share = right / judged.sum((1, 2)).clamp(min=1)
        return {"loss": balanced_loss(logits, mask), "pixel_accuracy": share.sum()}

    def inference(self, net: nn.Module) -> nn.Module:
        """See `MaskInference`."""
        return MaskInference(net)

    def settle(self, judged: Iterable[tuple[Prediction, Prediction]]) -> Self:
        """Nothing is fitted."""
        return self


def balanced_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """What makes thin and rare classes count: the cross-entropy of pixels, each weighted by the
    square root of how rare its class is in the batch, and one minus the soft Dice coefficient
    (Milletari et al. 2016, arXiv:1606.04797), a mean over the classes that the batch shows.

    Args:
        logits: (N, classes, H, W).
        mask: (N, H, W) int64; pixels of 255 count nowhere. Zero where there is no other.
    """
    judged = (mask != NOT_JUDGED).float()
    known = mask.where(mask != NOT_JUDGED, 0)
    log_probabilities = logits.log_softmax(1)
    of_truth = log_probabilities.gather(1, known[:, None])[:, 0]

    def by_class(values: Tensor) -> Tensor:
        """Sums over the pixels of each class."""
        sums = values.new_zeros(logits.shape[1])
        return sums.scatter_add(0, known.flatten(), (values * judged).flatten())

    wanted = by_class(judged)
    weights = wanted.clamp(min=1).rsqrt()
    entropy = -(weights * by_class(of_truth)).sum() / (weights * wanted).sum().clamp(min=1)
    said = (log_probabilities.exp() * judged[:, None]).sum((0, 2, 3))
    shown = wanted > 0
    dice = 2 * by_class(of_truth.exp()) / (wanted + said).clamp(min=1)
    return entropy + ((1 - dice) * shown).sum() / shown.sum().clamp(min=1)


class MaskInference(nn.Module):
    """A segmentation with its logits enlarged to the input, and the highest taken.

    Args:
        net: Normalised images (N, C, H, W) to logits (N, classes, h, w).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, H, W) uint8."""
        raw = self.net(images).float()
        logits = F.interpolate(raw, size=images.shape[-2:], mode="bilinear")
        return (logits.argmax(1).to(torch.uint8),)
