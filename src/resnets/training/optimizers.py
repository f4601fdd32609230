"""What moves the weights: optimizers, warm-up and cosine, and the average of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def make_sgd(
    part: nn.Module, lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum."""
    groups = _groups(part, weight_decay)
    return torch.optim.SGD(groups, lr, momentum, nesterov=momentum > 0)


def make_adamw(
    part: nn.Module, lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019); the momentum is its first beta."""
    return torch.optim.AdamW(_groups(part, weight_decay), lr, (momentum, 0.999))


OPTIMIZERS = {"sgd": make_sgd, "adamw": make_adamw}


def _groups(part: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Biases and scales of norms, all of one dimension, do not decay (He et al. 2019, section
    2)."""
    trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim > 1]
    vectors = [parameter for parameter in trained if parameter.ndim <= 1]
    groups = ((matrices, weight_decay), (vectors, 0.0))
    return [{"params": params, "weight_decay": decay} for params, decay in groups if params]


@dataclass(frozen=True)
class Schedule:
    """The learning rate by step: a linear warm-up, then half a cosine to zero (Loshchilov and
    Hutter 2017; Goyal et al. 2017).

    Args:
        peak: The highest rate.
        steps: All steps of it.
        warmup: Steps of the warm-up.
    """

    peak: float
    steps: int
    warmup: int

    def __call__(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        if step < self.warmup:
            return self.peak * (step + 1) / (self.warmup + 1)
        part = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.peak * (1 + math.cos(math.pi * min(1.0, part))) / 2


class Average:
    """An exponential moving average of weights and buffers, young at first: the decay is min(d, (1
    + t) / (10 + t)).

    Args:
        net: The network in training.
        horizon: Steps over which the average forgets; d = 1 - 1 / horizon.
    """

    def __init__(self, net: nn.Module, horizon: float) -> None:
        self.decay = 1 - 1 / max(1.0, horizon)
        self.model = AveragedModel(net, multi_avg_fn=self._blend, use_buffers=True)

    @property
    def net(self) -> nn.Module:
        """The network with averaged weights."""
        return self.model.module

    def update(self, net: nn.Module) -> None:
        """Takes in the weights after a step."""
        self.model.update_parameters(net)

    @torch.no_grad()
    def _blend(
        self, averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int
    ) -> None:
        t = int(count)
        decay = min(self.decay, (1 + t) / (10 + t))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(list(averaged), list(current), 1 - decay)
        else:  # counters
            for old, new in zip(averaged, current, strict=True):
                old.copy_(new)
