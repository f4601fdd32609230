"""BatchNorm statistics measured anew: where they came folded into weight and bias, the function of
the network unchanged, and where averages lag behind the weights."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def folded_norms(net: nn.Module) -> list[Any]:
    """The BatchNorms with mean 0 and variance 1 - eps, which divides by exactly one: weight and
    bias carry their statistics. A norm that was never trained has variance 1."""
    return [
        norm
        for norm in net.modules()
        if isinstance(norm, nn.modules.batchnorm._BatchNorm)
        and norm.affine
        and norm.running_mean is not None
        and norm.running_var is not None
        and not norm.running_mean.any()
        and bool((norm.running_var - (1 - norm.eps)).abs().max() < 1e-7)
    ]


class Moments:
    """Mean and variance of each channel over batches, in double precision."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, values: Tensor) -> None:
        """Takes in (N, C, ...), merged by the deviations from both means (Chan et al. 1983)."""
        others = [axis for axis in range(values.ndim) if axis != 1]
        variance, mean = torch.var_mean(values.float(), others, correction=0)
        variance, mean = variance.cpu().double(), mean.cpu().double()
        count = values.numel() // values.shape[1]
        total, distance = self.count + count, mean - self.mean
        self.squares = (
            self.squares + variance * count + distance.square() * (self.count * count / total)
        )
        self.mean, self.count = self.mean + distance * (count / total), total


@torch.no_grad()
def unfold_statistics(net: nn.Module, batches: Iterable[Tensor]) -> int:
    """Gives every folded norm the mean and the variance of its input, and weight and bias with
    which it computes what it did.

    One pass is exact: since no norm changes its output, none changes the input of a later one.

    Args:
        net: Changed in place; its modes stay as they are.
        batches: Normalised images (N, C, H, W), on the device of the network.

    Returns:
        How many norms were changed.
    """
    modes = [(module, module.training) for module in net.modules()]
    norms = {norm: Moments() for norm in folded_norms(net)}
    handles = [
        norm.register_forward_pre_hook(partial(_take, moments)) for norm, moments in norms.items()
    ]
    net.eval()
    try:
        for images in batches:
            net(images)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    seen = {norm: moments for norm, moments in norms.items() if moments.count}
    for norm, moments in seen.items():
        _move(norm, moments.mean, moments.squares / moments.count)
    return len(seen)


@torch.no_grad()
def measure_statistics(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Gives every norm with statistics those of its input over some batches, as a training step
    computes them, each batch counted alike (Wu and Johnson 2021, arXiv:2105.07576, section 3).

    Args:
        net: Changed in place; its modes stay as they are. What is random in training, dropout and
            stochastic depth, is not.
        batches: Normalised images (N, C, H, W), on the device of the network, at least one batch;
            one of a single image beside others is left out, since maps may end at 1 x 1.
    """
    modes = [(module, module.training) for module in net.modules()]
    norms: list[Any] = [
        norm
        for norm in net.modules()
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None
    ]
    counts = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    net.eval()
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        for number, images in enumerate(batches):
            if len(images) > 1 or not number:
                net(images)
    finally:
        for norm, momentum, count in counts:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
        for module, mode in modes:
            module.training = mode


def _take(moments: Moments, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    moments.add(inputs[0])


def _move(norm: Any, mean: Tensor, variance: Tensor) -> None:
    scale = norm.weight.cpu().double() / (norm.running_var.cpu().double() + norm.eps).sqrt()
    norm.bias.copy_(norm.bias.cpu().double() + scale * mean)
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
