"""A class for each pixel: the stages of a backbone added up, with a loss in which a thin or rare
class weighs as much as the sky."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.kinds import Kind
from resnets.kinds.mask import MASK
from resnets.kinds.prediction import Prediction
from resnets.kinds.view import NOT_JUDGED
from resnets.models import Network
from resnets.tasks.dense import Dense
from resnets.tasks.task import Targets

OVERLAP_WEIGHT = 1.0  # of the loss of overlaps beside cross-entropy


@dataclass(frozen=True)
class Segmentation:
    """A class for each pixel; see `tasks.task.Task`."""

    kind: ClassVar[Kind] = MASK
    takes_modules: ClassVar[bool] = False

    def build(self, network: Network, classes: int) -> nn.Module:
        """Logits of each class at the finest map."""
        return Dense(network, classes, depth=2)

    def backbone(self, net: Any) -> nn.Module:
        """The network under the head."""
        return net.backbone.net

    def head(self, net: Any) -> nn.Module:
        """All but the backbone."""
        return nn.ModuleList([net.laterals, net.head, net.predict])

    def collate(self, truths: Sequence[Prediction]) -> Targets:
        """`mask` (N, H, W) int64 in pixels of the input, 255 where nothing is known."""
        masks = np.stack([truth.mask for truth in truths])
        return {"mask": torch.from_numpy(masks.astype(np.int64))}

    def loss(self, raw: Tensor, targets: Targets) -> dict[str, Tensor]:
        """`loss`, and the pixels that are right, as a sum over images of their part:
        `pixel_accuracy`. Raw output (N, classes, h, w)."""
        mask = targets["mask"]
        logits = F.interpolate(raw.float(), size=mask.shape[-2:], mode="bilinear")
        judged = mask != NOT_JUDGED
        count = judged.sum().clamp(min=1)
        each = F.cross_entropy(logits, mask, ignore_index=NOT_JUDGED, reduction="sum") / count
        loss = each + OVERLAP_WEIGHT * _overlap_loss(logits, mask, judged)
        right = ((logits.detach().argmax(1) == mask) & judged).sum((1, 2))
        share = right / judged.sum((1, 2)).clamp(min=1)
        return {"loss": loss, "pixel_accuracy": share.sum()}

    def inference(self, net: nn.Module) -> nn.Module:
        """See `MaskInference`."""
        return MaskInference(net)

    def settle(self, judged: Iterable[tuple[Prediction, Prediction]]) -> Self:
        """Nothing is fitted."""
        return self


def _overlap_loss(logits: Tensor, mask: Tensor, judged: Tensor) -> Tensor:
    """One minus the soft Dice coefficient, a mean over the classes that the batch shows, so that a
    rare one counts as much as any other (Milletari et al. 2016, arXiv:1606.04797)."""
    probabilities = logits.softmax(1) * judged[:, None]
    true = F.one_hot(mask.where(judged, 0), logits.shape[1]).movedim(-1, 1) * judged[:, None]
    hits = (probabilities * true).sum((0, 2, 3))
    wanted, said = true.sum((0, 2, 3)), probabilities.sum((0, 2, 3))
    shown = wanted > 0
    dice = 2 * hits / (wanted + said).clamp(min=1e-6)
    return ((1 - dice) * shown).sum() / shown.sum().clamp(min=1)


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
