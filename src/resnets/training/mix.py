"""Images of a batch mixed with one another, and what is true of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

Targets = dict[str, Tensor]
Loss = Callable[[Any, Targets], dict[str, Tensor]]
SALT = 0x6D6978  # apart from the other draws of a step


class Mixable(Protocol):
    """Images (N, C, H, W) or clips (N, C, T, H, W), and what is true of them."""

    @property
    def images(self) -> Tensor: ...
    @property
    def targets(self) -> Targets: ...


@dataclass(frozen=True)
class Mixed:
    """Images, and what is true of them: each target for a share, together 1."""

    images: Tensor
    parts: tuple[tuple[float, Targets], ...]

    def judge(self, loss: Loss, raw: Any) -> dict[str, Tensor]:
        """What a loss tells of a raw output, weighted by the shares. It is the loss of mixed
        targets wherever that is linear in them."""
        said = [(share, loss(raw, targets)) for share, targets in self.parts]
        return {
            name: torch.stack([share * one[name] for share, one in said]).sum()
            for name in said[0][1]
        }


@dataclass(frozen=True)
class Mix:
    """Mixes a batch with a permutation of itself, or leaves it as it is.

    Args:
        mixup: Alpha of the beta distribution of the shares of sums (Zhang et al. 2018,
            arXiv:1710.09412); 0 for none.
        cutmix: Alpha of that of the area of the image that a rectangle of the other one leaves
            (Yun et al. 2019, arXiv:1905.04899); 0 for none. With both, each batch takes one.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __call__(self, batch: Mixable, place: tuple[int, ...]) -> Mixed:
        """A batch of a step, mixed by draws from its place (seed, step, number of the batch)."""
        images, targets = batch.images, batch.targets
        if not (self.mixup or self.cutmix):
            return Mixed(images, ((1.0, targets),))
        draws = np.random.default_rng((SALT, *place))
        order = torch.from_numpy(draws.permutation(len(images))).to(images.device)
        cuts = self.cutmix > 0 and (not self.mixup or draws.random() < 0.5)
        alpha = self.cutmix if cuts else self.mixup
        share = float(draws.beta(alpha, alpha))
        if cuts:
            images, share = _cut(images, order, share, draws.random(2))
        else:
            images = images.lerp(images[order], 1 - share)
        other = {name: one[order] for name, one in targets.items()}
        return Mixed(images, ((share, targets), (1 - share, other)))


def _cut(images: Tensor, order: Tensor, share: float, centre: np.ndarray) -> tuple[Tensor, float]:
    """Images with a rectangle of others, shaped as they are, around a centre; and the share of the
    area that is their own: what lies outside of the image is cut off the rectangle."""
    spans = []
    for side, place in zip(images.shape[-2:], centre, strict=True):
        half, middle = side * math.sqrt(1 - share) / 2, side * place
        spans.append((round(max(0.0, middle - half)), round(min(float(side), middle + half))))
    (top, bottom), (left, right) = spans
    images = images.clone()
    images[..., top:bottom, left:right] = images[order][..., top:bottom, left:right]
    height, width = images.shape[-2:]
    return images, 1 - (bottom - top) * (right - left) / (height * width)
