"""What moves the weights: optimizers, schedules, and the average of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim.swa_utils import AveragedModel

from resnets.training.lamb import Lamb

Groups = list[dict[str, Any]]


@dataclass(frozen=True)
class Maker:
    """How an optimizer is made, and what it usually takes.

    Args:
        build: Groups of parameters, a learning rate and the momentum, or first beta, to it.
        lr: Usual learning rate, beside those of the other rows: a recipe that is for another
            optimizer is carried over in this proportion.
        weight_decay: Usual weight decay: far less where it is added to the gradient (L2).
    """

    build: Callable[[Groups, float, float], torch.optim.Optimizer]
    lr: float
    weight_decay: float

    def __call__(
        self, part: nn.Module, lr: float, momentum: float, weight_decay: float, depth: float = 1.0
    ) -> torch.optim.Optimizer:
        """An optimizer of a network, or of a part of it; see `parameter_groups`."""
        return self.build(parameter_groups(part, weight_decay, depth), lr, momentum)


def _betas(momentum: float) -> tuple[float, float]:
    return momentum, 0.999


def _sgd(groups: Groups, lr: float, momentum: float) -> torch.optim.Optimizer:
    return optim.SGD(groups, lr, momentum, nesterov=momentum > 0)


def _adamw(groups: Groups, lr: float, momentum: float) -> torch.optim.Optimizer:
    # fused: one pass over the memory of each parameter instead of ten
    return optim.AdamW(groups, lr, _betas(momentum), fused=True)


# SGD with Nesterov momentum; AdamW (Loshchilov and Hutter 2019); what else is in torch.optim for
# weights of any shape; LAMB
OPTIMIZERS = {
    "sgd": Maker(_sgd, 0.1, 5e-4),
    "adamw": Maker(
        lambda groups, lr, m: optim.AdamW(groups, lr, _betas(m), fused=True), 2e-3, 0.05
    ),
    "adam": Maker(lambda groups, lr, m: optim.Adam(groups, lr, _betas(m)), 2e-3, 1e-5),
    "nadam": Maker(
        lambda groups, lr, m: optim.NAdam(groups, lr, _betas(m), decoupled_weight_decay=True),
        *(2e-3, 0.05),
    ),
    "radam": Maker(
        lambda groups, lr, m: optim.RAdam(groups, lr, _betas(m), decoupled_weight_decay=True),
        *(2e-3, 0.05),
    ),
    "rmsprop": Maker(lambda groups, lr, m: optim.RMSprop(groups, lr, momentum=m), 5e-4, 1e-5),
    "adagrad": Maker(lambda groups, lr, m: optim.Adagrad(groups, lr), 1e-2, 1e-5),
    "adafactor": Maker(lambda groups, lr, m: optim.Adafactor(groups, lr), 1e-2, 0.01),
    "lamb": Maker(lambda groups, lr, m: Lamb(groups, lr, _betas(m)), 5e-3, 0.02),
}


def parameter_groups(part: nn.Module, weight_decay: float, depth: float) -> Groups:
    """The trained parameters of a network, or of a part of it, in groups of one rate.

    Biases and scales of norms, all of one dimension, do not decay (He et al. 2019, section 2).

    Args:
        part: What is trained.
        weight_decay: Of the matrices.
        depth: Factor of the learning rate from each child module to the one before it: what comes
            first is more general and is moved less (Howard and Ruder 2018, arXiv:1801.06146,
            section 3.2). A group has the product as `scale`.
    """
    trained = [(name, one) for name, one in part.named_parameters() if one.requires_grad]
    names = list(dict.fromkeys(name.partition(".")[0] for name, _ in trained))
    order = {name: 0 if depth == 1 else number for number, name in enumerate(reversed(names))}
    groups = []
    for number in sorted(set(order.values())):
        here = [one for name, one in trained if order[name.partition(".")[0]] == number]
        matrices = [parameter for parameter in here if parameter.ndim > 1]
        vectors = [parameter for parameter in here if parameter.ndim <= 1]
        groups += [
            {"params": params, "weight_decay": decay, "scale": depth**number}
            for params, decay in ((matrices, weight_decay), (vectors, 0.0))
            if params
        ]
    return groups


@dataclass(frozen=True)
class Schedule:
    """The learning rate by step: a linear warm-up (Goyal et al. 2017), then half a cosine to zero
    (Loshchilov and Hutter 2017) or another shape.

    Args:
        peak: The highest rate.
        steps: All steps of it.
        warmup: Steps of the warm-up.
        shape: `cosine`, `linear`, `steps` or `constant`.
        milestones: Fractions of all steps at which the rate falls (`steps`).
        gamma: What it is multiplied by there.
    """

    peak: float
    steps: int
    warmup: int
    shape: str = "cosine"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1

    def __call__(self, step: float) -> float:
        """The rate of a step, counted from 0; of places between steps too."""
        if step < self.warmup:
            return self.peak * (step + 1) / (self.warmup + 1)
        part = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        if self.shape == "cosine":
            return self.peak * (1 + math.cos(math.pi * part)) / 2
        if self.shape == "linear":
            return self.peak * (1 - part)
        if self.shape == "steps":
            passed = sum(step >= round(one * self.steps) for one in self.milestones)
            return self.peak * self.gamma**passed
        return self.peak


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
