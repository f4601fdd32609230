"""Attention over channels at the end of a branch: it weighs each channel by what is in all of
them."""

from __future__ import annotations

import math

import torch
import torchvision
from torch import Tensor, nn


def pooled(x: Tensor) -> Tensor:
    """The mean over all places, kept as a map of size 1: (N, C, ...) -> (N, C, 1, ...)."""
    return x.mean(tuple(range(2, x.ndim)), keepdim=True)


def divisible(
    channels: float, divisor: int = 8, least: int | None = None, keep: float = 0.9
) -> int:
    """The nearest multiple of `divisor`, at least `least`; one more where that lost more than `1 -
    keep`."""
    result = max(least or divisor, int(channels + divisor / 2) // divisor * divisor)
    return result + divisor if result < keep * channels else result


def squeeze_excitation(channels: int, reduction: int = 16, divisor: int = 8) -> nn.Module:
    """Two layers on the pooled channels give each a weight (Hu et al. 2018, arXiv:1709.01507,
    section 3).

    Args:
        channels: In and out.
        reduction: Channels are divided by it between the two layers, then rounded to a multiple of
            `divisor`.
        divisor: 1 is the paper's own rule.
    """
    return torchvision.ops.SqueezeExcitation(
        channels, divisible(channels / reduction, divisor, keep=0)
    )


class EfficientChannelAttention(nn.Module):
    """A short convolution along the pooled channels gives each a weight (Wang et al. 2020,
    arXiv:1910.03151, section 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        reach = int(abs(math.log2(channels) + 1) / 2)
        size = max(3, reach if reach % 2 else reach + 1)
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        means = pooled(x)
        return x * self.conv(means.flatten(1)[:, None]).sigmoid().view_as(means)


class PooledNorm(nn.BatchNorm2d):
    """The norm of pooled maps. It stays BatchNorm where others become GroupNorm: of one place, a
    group says little or nothing."""


class SelectiveKernel(nn.Module):
    """Two 3x3 convolutions, one dilated, and a soft choice between them for each channel (Li et al.
    2019, arXiv:1903.06586).

    It stands for a block's 3x3 convolution, its norm and its activation.

    Args:
        conv: The convolution whose place it takes.
        reduction: Channels are divided by it where the choice is made.
        divisor: To whose multiples they are rounded.
        split: `half`: each path sees one half of the channels; `full`: all of them, as in the
            paper.
    """

    def __init__(
        self, conv: nn.Conv2d, reduction: int = 16, divisor: int = 8, split: str = "half"
    ) -> None:
        super().__init__()
        if split not in ("half", "full"):
            raise ValueError(f"{split!r}; allowed: half, full")
        self.halves = split == "half"
        if self.halves and conv.in_channels % 2:
            raise ValueError(
                f"{conv.in_channels} channels do not divide into two halves; use an even number, or"
                " sk-...-full"
            )
        channels = conv.out_channels
        self.paths = nn.ModuleList(
            ConvNorm(
                conv.in_channels // (2 if self.halves else 1),
                channels,
                conv.stride,
                conv.groups,
                dilation,
            )
            for dilation in (1, 2)
        )
        self.attn = SelectiveKernelChoice(channels, divisible(channels / reduction, divisor))

    def forward(self, x: Tensor) -> Tensor:
        inputs = x.chunk(2, 1) if self.halves else (x, x)
        one, two = (path(part) for path, part in zip(self.paths, inputs, strict=True))
        weight_one, weight_two = self.attn(one + two)
        return one * weight_one + two * weight_two


class SelectiveKernelChoice(nn.Module):
    """From the sum of two paths to the weight of each, which add up to 1."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc_reduce = nn.Conv2d(channels, hidden, 1, bias=False)
        self.bn = PooledNorm(hidden)
        self.fc_select = nn.Conv2d(hidden, 2 * channels, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        one, two = self.fc_select(self.bn(self.fc_reduce(pooled(x))).relu()).chunk(2, 1)
        weight = torch.sigmoid(one - two)  # the softmax of two
        return weight, 1 - weight


class ConvNorm(nn.Module):
    """A 3x3 convolution, its norm and ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: tuple[int, ...],
        groups: int,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, 3, stride[0], dilation, dilation, groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()


class SplitAttention(nn.Module):
    """One 3x3 convolution to `radix` times the channels, and a weighted sum of the splits (Zhang et
    al. 2020, arXiv:2004.08955).

    It stands for a block's 3x3 convolution, its norm and its activation. A stride is taken by
    average pooling.

    Args:
        conv: The convolution whose place it takes.
        radix: Splits of each group.
        pool: Where the pooling stands: `after` or `before` the convolution.
    """

    def __init__(self, conv: nn.Conv2d, radix: int = 2, pool: str = "after") -> None:
        super().__init__()
        if pool not in ("after", "before"):
            raise ValueError(f"{pool!r}; allowed: after, before")
        channels, groups, stride = conv.out_channels, conv.groups, conv.stride[0]
        hidden = divisible(channels * radix / 4, least=32)
        shrink = nn.AvgPool2d(3, stride, padding=1) if stride > 1 else nn.Identity()
        self.before: nn.Module = shrink if pool == "before" else nn.Identity()
        self.after: nn.Module = shrink if pool == "after" else nn.Identity()
        self.radix, self.groups = radix, groups
        self.conv = nn.Conv2d(
            conv.in_channels, channels * radix, 3, padding=1, groups=groups * radix, bias=False
        )
        self.bn0 = nn.BatchNorm2d(channels * radix)
        self.fc1 = nn.Conv2d(channels, hidden, 1, groups=groups)
        self.bn1 = PooledNorm(hidden)
        self.fc2 = nn.Conv2d(hidden, channels * radix, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        splits = self.bn0(self.conv(self.before(x))).relu().chunk(self.radix, 1)
        weights = self.fc2(self.bn1(self.fc1(pooled(sum(splits[1:], splits[0])))).relu())
        if self.radix == 1:
            return self.after(splits[0] * weights.sigmoid())
        # within each group the channels are ordered by split
        count, channels, *ones = weights.shape
        weights = (
            weights.view(count, self.groups, self.radix, -1)
            .softmax(2)
            .transpose(1, 2)
            .reshape(count, channels, *ones)
        )
        weighted = [
            split * weight
            for split, weight in zip(splits, weights.chunk(self.radix, 1), strict=True)
        ]
        return self.after(sum(weighted[1:], weighted[0]))


class Res2(nn.Module):
    """3x3 convolutions in a chain, each on its own piece of the channels and the last one's result
    (Gao et al. 2019, arXiv:1904.01169): a hierarchy of receptive fields in one block.

    It stands for a block's 3x3 convolution, its norm and its activation. In the first block of a
    stage the pieces are not chained, and the piece without convolution is average-pooled.

    Args:
        conv: The convolution whose place it takes; it has the channels of all pieces.
        pieces: The paper's scale.
        first: Whether the block is the first of its stage.
    """

    def __init__(self, conv: nn.Conv2d, pieces: int = 4, *, first: bool) -> None:
        super().__init__()
        if conv.in_channels % pieces:
            raise ValueError(f"{conv.in_channels} channels do not divide into {pieces} pieces")
        width = conv.in_channels // pieces
        self.pieces, self.first = pieces, first
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, 3, conv.stride[0], padding=1, groups=conv.groups, bias=False)
            for _ in range(pieces - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(pieces - 1))
        self.pool = nn.AvgPool2d(3, conv.stride[0], padding=1) if first else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        *parts, last = x.chunk(self.pieces, 1)
        results: list[Tensor] = []
        for part, conv, bn in zip(parts, self.convs, self.bns, strict=True):
            chained = part if self.first or not results else part + results[-1]
            results.append(bn(conv(chained)).relu())
        return torch.cat([*results, self.pool(last)], 1)
