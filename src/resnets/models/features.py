"""A network as a backbone: the maps of its stages instead of classes, for detectors and
segmentation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Features(nn.Module):
    """The maps of some stages.

    Args:
        net: A network with `forward_stages`; its classifier is taken away.
        out_indices: Which maps, in rising order: 0 is the stem (before its pooling), 1 the first
            stage, -1 the last; all if None.

    Attributes:
        channels: Of each map.
        strides: Side of the input over side of the map.

    Raises:
        ValueError: A stage that there is none of, or out of order.
    """

    def __init__(self, net: Any, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        net.reset_classifier(0)
        self.net = net
        maps = _shapes(net)
        wanted = range(len(maps)) if out_indices is None else out_indices
        self.out_indices = [index + len(maps) if index < 0 else index for index in wanted]
        if not self.out_indices or self.out_indices != sorted(
            {*self.out_indices} & {*range(len(maps))}
        ):
            raise ValueError(
                f"out_indices={list(wanted)}; allowed: some of 0 to {len(maps) - 1} in rising order"
            )
        self.channels = [maps[index][1] for index in self.out_indices]
        self.strides = [SIDE // maps[index][-1] for index in self.out_indices]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images (N, C, H, W) to maps (N, channels[i], H / strides[i], W /
        strides[i])."""
        maps = self.net.forward_stages(x)
        return [maps[index] for index in self.out_indices]


SIDE = 224


@torch.no_grad()
def _shapes(net: nn.Module) -> list[tuple[int, ...]]:
    """Shapes of all maps, found on a copy without memory or arithmetic."""
    hollow: Any = copy.deepcopy(net).to("meta").eval()
    weight = next(
        module.weight for module in hollow.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)
    )
    sides = [SIDE] * 2 if weight.ndim == 4 else [8, SIDE, SIDE]
    return [
        tuple(one.shape)
        for one in hollow.forward_stages(torch.zeros(1, weight.shape[1], *sides, device="meta"))
    ]
