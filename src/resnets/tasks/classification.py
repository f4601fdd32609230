"""One label for an image: the loss to train with."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Classification:
    """The task of the training loop: turns a batch into numbers, the first of them the loss.

    Args:
        smoothing: The part of the target that is spread over all classes (Szegedy et al. 2016,
            section 7).
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        self.smoothing = smoothing

    def __call__(self, net: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """`loss`, and the hits of this batch as `correct`: images (N, C, H, W), labels (N,)."""
        logits = net(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        return {"loss": loss, "correct": (logits.detach().argmax(1) == labels).sum()}
