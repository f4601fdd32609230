"""Changes to a finished network: other norms, standardised convolutions, dilation, anti-aliasing,
stochastic depth, less memory.

Each of them is the same for every network of the family, so the networks need not know of any.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from resnets.models.attention import PooledNorm
from resnets.models.densenet import DenseLayer
from resnets.models.layers import ZeroPad
from resnets.models.parts import blocks_of, replace

GROUPS = 32


def group_norms(net: Any) -> None:
    """Every BatchNorm becomes a GroupNorm of 32 groups (Wu and He 2018, arXiv:1803.08494): no
    statistics of a batch. Only those of pooled maps stay as they are.

    Raises:
        ValueError: A norm whose channels do not divide into 32 groups.
    """
    replace(net, nn.BatchNorm2d, _group_norm)
    alone = [
        name
        for name, module in net.named_modules()
        if isinstance(module, nn.GroupNorm) and module.num_channels == GROUPS
    ]
    if alone:  # a group of one channel needs a second pixel, in the stem or in the last stage
        halvings = (
            len(net.stage_names) + 1 if any(name.startswith("layer") for name in alone) else 1
        )
        net.smallest = max(getattr(net, "smallest", 1), 2**halvings + 1)


def _group_norm(norm: nn.BatchNorm2d) -> nn.Module:
    if isinstance(norm, PooledNorm):
        return norm
    if norm.num_features % GROUPS:
        raise ValueError(
            f"norm=group needs multiples of {GROUPS} channels, a layer has {norm.num_features}:"
            " choose other widths"
        )
    new = nn.GroupNorm(GROUPS, norm.num_features, device=norm.weight.device)
    new.weight, new.bias = norm.weight, norm.bias
    return new


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose weights have mean 0 and variance 1 for each output (Qiao et al. 2019,
    arXiv:1903.10520)."""

    eps = 1e-8  # of BiT in timm; inside the root, on the biased variance

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        return self._conv_forward(
            x, (self.weight - mean) * torch.rsqrt(variance + self.eps), self.bias
        )


def standardise(net: nn.Module) -> None:
    """Every convolution without bias standardises its weights: stem, blocks and shortcuts."""

    def make(conv: nn.Conv2d) -> nn.Conv2d:
        if conv.bias is not None:
            return conv
        arguments = (
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
        )
        new = StandardisedConv2d(*arguments, bias=False, device=conv.weight.device)  # type: ignore[arg-type]
        new.weight = conv.weight
        return new

    replace(net, nn.Conv2d, make)


class BlurPool(nn.Module):
    """A binomial 3x3 blur, then every stride-th pixel: shifts of an image move the maps evenly
    (Zhang 2019, arXiv:1904.11486)."""

    kernel_size = 3

    def __init__(self, stride: int = 2) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        line = x.new_tensor([0.25, 0.5, 0.25])
        kernel = torch.outer(line, line).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(
            F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=self.stride, groups=x.shape[1]
        )


def antialias(net: Any, kind: str) -> None:
    """Strided 3x3 convolutions run at stride 1, and a pooling behind their activation strides; the
    stem's pooling is split too.

    Args:
        net: A ResNet.
        kind: `blur`: binomial. `average`: 2x2 means, which also take the place of the stem's max
            pooling.
    """
    # rounds up, as the shortcut does
    pool = BlurPool if kind == "blur" else lambda: nn.AvgPool2d(2, 2, ceil_mode=True)
    in_stem = BlurPool() if kind == "blur" else nn.AvgPool2d(2, 2)  # rounds down, as in timm
    # At its border a blur needs a second pixel, also before the last stage
    net.smallest = 2 ** len(net.stage_names) + 1 if kind == "blur" else 3
    if isinstance(net.maxpool, nn.MaxPool2d):
        net.maxpool = (
            nn.Sequential(nn.MaxPool2d(3, 1, padding=1), in_stem) if kind == "blur" else in_stem
        )
    elif isinstance(net.maxpool, nn.Sequential):
        conv, *rest = net.maxpool
        conv.stride = (1, 1)  # type: ignore[assignment]
        net.maxpool = nn.Sequential(conv, in_stem, *rest)
    for block in blocks_of(net):
        conv = getattr(block, block.spatial)
        if conv.stride != (1, 1):
            conv.stride = (1, 1)
            block.pool = pool()


def dilate(stages: list[list[nn.Module]], stride: int, output_stride: int) -> None:
    """Stops shrinking at an output stride: from there on 3x3 convolutions look further apart
    instead (Yu et al. 2017, arXiv:1705.09914). The first block of a stage keeps the dilation before
    it in its striding convolution.

    Args:
        stages: The blocks of each stage; what strides (a transition) is the first of its stage.
        stride: Of what goes into the first stage.
        output_stride: Of what comes out of the last: 8, 16 or 32.
    """
    dilation = 1
    for number, blocks in enumerate(stages):
        step = 1 if number == 0 else 2
        if stride * step <= output_stride:
            stride *= step
            continue
        before, dilation = dilation, dilation * step
        for index, block in enumerate(blocks):
            strides = (
                "conv1"
                if getattr(block, "stride_in", "3x3") == "1x1"
                else getattr(block, "spatial", " ")
            )
            for name, module in list(block.named_modules()):
                first = index == 0 and name.startswith((strides, "downsample"))
                if isinstance(module, nn.Conv2d):
                    _widen(module, before if first else dilation)
                elif isinstance(module, ZeroPad):
                    module.stride = 1
                elif isinstance(module, nn.AvgPool2d | BlurPool) and module.stride == 2:
                    parent, _, child = name.rpartition(".")
                    setattr(
                        block.get_submodule(parent),
                        child,
                        _at_stride_one(module, in_shortcut="downsample" in name),
                    )


def _widen(conv: nn.Conv2d, dilation: int) -> None:
    conv.stride = (1, 1)
    if conv.kernel_size != (1, 1):
        conv.dilation = tuple(old * dilation for old in conv.dilation)
        conv.padding = tuple(old * dilation for old in conv.padding)  # type: ignore[misc]


def _at_stride_one(pool: nn.AvgPool2d | BlurPool, in_shortcut: bool) -> nn.Module:
    """What a pooling at stride 2 becomes: a blur still blurs, 3x3 means still average, 2x2 means do
    so in shortcuts only."""
    if isinstance(pool, BlurPool):
        return BlurPool(stride=1)
    if pool.kernel_size == 3:
        return nn.AvgPool2d(3, 1, padding=1)
    return (
        nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.AvgPool2d(2, 1))
        if in_shortcut
        else nn.Identity()
    )


def drop_paths(net: nn.Module, rate: float) -> None:
    """Stochastic depth (Huang et al. 2016, arXiv:1603.09382): in training a block's branch is left
    out for some samples, the last block's with probability `rate`, the first one's never, and in a
    straight line between."""
    blocks = blocks_of(net)
    for index, block in enumerate(blocks):
        block.drop_path = StochasticDepth(rate * index / max(1, len(blocks) - 1), "row")


def save_memory(net: nn.Module) -> int:
    """What is inside of each block is computed again in the backward pass instead of being kept
    (Chen et al. 2016, arXiv:1604.06174); of a dense layer the half that costs the memory (Pleiss et
    al. 2017, arXiv:1707.06990). BatchNorm's statistics are updated once, not again in the second
    pass. To do it twice changes nothing.

    Returns:
        How many blocks there are of which this is known.
    """
    count = 0
    for module in net.modules():
        name = (
            "narrow"
            if isinstance(module, DenseLayer)
            else "forward"
            if hasattr(module, "branch_end")
            else None
        )
        if name:
            count += 1
            method = getattr(type(module), name).__get__(module)
            setattr(
                module,
                name,
                partial(
                    checkpoint, method, use_reentrant=False, context_fn=partial(_contexts, module)
                ),
            )
    return count


def _contexts(block: nn.Module) -> tuple[Any, Any]:
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """What the second pass adds to the statistics goes into copies, which are thrown away."""
    norms = [
        module for module in block.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    kept = [dict(norm._buffers) for norm in norms]
    for norm, buffers in zip(norms, kept, strict=True):
        norm._buffers.update(
            {name: value if value is None else value.clone() for name, value in buffers.items()}
        )
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)
