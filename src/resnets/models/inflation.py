"""Networks for clips: a finished 2-D network becomes 3-D, and with its weights it predicts on a
still clip as it did on the image.

`full`: every convolution also looks one image back and forward (R3D). `spatial`: none does (the
later stages of MC3). `2plus1`: a convolution over the image, then one over time (R(2+1)D). Tran
et al. 2018, arXiv:1711.11248, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from resnets.models.layers import ZeroPad
from resnets.models.parts import initialise, replace
from resnets.models.rewrite import BlurPool, StandardisedConv2d

KINDS = ("full", "spatial", "2plus1")
FLAT = (BlurPool, StandardisedConv2d, ZeroPad, nn.LayerNorm)  # layers that know two dimensions only


def inflate(net: Any, kinds: str | Sequence[str] = "full", published: bool = False) -> nn.Module:
    """Rewrites a network for images into one for clips (N, C, T, H, W), in place.

    In the stages of a ResNet what halves the size also halves the number of images, but for
    `spatial`.

    Args:
        net: A network of 2-D convolutions.
        kinds: One of `KINDS`, or one for each stage of a ResNet; the stem is of the first kind.
        published: (2+1)-D convolutions as wide as the paper's, which cannot hold 2-D weights,
            instead of so wide that they can.

    Returns:
        The same object.

    Raises:
        ValueError: An unknown kind, not one for each stage, or a layer that has no form in three
            dimensions.
    """
    stages = getattr(net, "stage_names", [])
    kinds = [kinds] * max(1, len(stages)) if isinstance(kinds, str) else list(kinds)
    if len(kinds) != max(1, len(stages)) or not set(kinds) <= set(KINDS):
        raise ValueError(
            f"time={'-'.join(kinds)}; allowed: {', '.join(KINDS)}, or one for each of {len(stages)}"
            " stages; in the text of a network also shift and motion"
        )
    for module in net.modules():
        if isinstance(module, FLAT):
            raise ValueError(f"{type(module).__name__} has no form in three dimensions")
    for name, kind in zip(stages, kinds, strict=False):
        for block in getattr(net, name):
            # a selective kernel has no width of the paper's
            plain = isinstance(block.conv1, nn.Conv2d)
            width = _published_width(block.conv1) if published and plain else None
            _inflate(block, kind, True, width)
    _inflate(net, kinds[0], False, 45 if published else None)  # the stem, and all else that is left
    return net


def _published_width(conv: nn.Conv2d) -> int:
    """Channels between the halves: a block then has as many weights as its 3-D form (section 3.5,
    as in torchvision)."""
    count_in, count_out = conv.in_channels, conv.out_channels
    return 27 * count_in * count_out // (9 * count_in + 3 * count_out)


def _inflate(net: nn.Module, kind: str, in_stage: bool, width: int | None) -> None:
    strides = in_stage and kind != "spatial"
    replace(net, nn.Conv2d, lambda conv: _conv(conv, kind, strides, width))
    replace(net, nn.BatchNorm2d, _norm)
    replace(net, (nn.MaxPool2d, nn.AvgPool2d), lambda pool: _pool(pool, strides))
    replace(net, nn.AdaptiveAvgPool2d, lambda pool: nn.AdaptiveAvgPool3d(pool.output_size))


def _conv(conv: nn.Conv2d, kind: str, strides: bool, width: int | None) -> nn.Module:
    pointwise = conv.kernel_size == (1, 1)
    time_stride = conv.stride[0] if strides else 1
    if kind == "2plus1" and not pointwise:
        whole = max(1, (width or 0) // conv.groups) * conv.groups
        return _two_plus_one(conv, time_stride, whole if width else 2 * conv.out_channels)
    frames = 3 if kind == "full" and not pointwise else 1
    new = _over_frames(conv, conv.out_channels, frames, time_stride, conv.bias is not None)
    # all weight on the middle image: the border of zeros in time then does not matter
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, :, frames // 2] = conv.weight
    new.bias = conv.bias
    return new


def _over_frames(
    conv: nn.Conv2d, out_channels: int, frames: int = 1, time_stride: int = 1, bias: bool = False
) -> nn.Conv3d:
    """The same convolution over so many images at a time, with weights of its own."""
    sides: Any = (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    kernel, stride, padding, dilation = sides
    return nn.Conv3d(
        conv.in_channels,
        out_channels,
        kernel_size=(frames, *kernel),
        stride=(time_stride, *stride),
        padding=(frames // 2, *padding),
        dilation=(1, *dilation),
        groups=conv.groups,
        bias=bias,
        device=conv.weight.device,
    )


def _two_plus_one(conv: nn.Conv2d, time_stride: int, width: int) -> nn.Sequential:
    """Over the image, norm, ReLU, over time. A 2-D convolution fits in where each of its outputs
    has one channel for its positive and one for its negative part."""
    count, device = conv.out_channels, conv.weight.device
    over_image = _over_frames(conv, width)
    norm = nn.BatchNorm3d(width, device=device)
    over_time = nn.Conv3d(
        width, count, (3, 1, 1), (time_stride, 1, 1), (1, 0, 0), bias=False, device=device
    )
    if width == 2 * count:
        with torch.no_grad():
            # outputs in pairs, so that groups stay together
            signs = torch.stack([conv.weight, -conv.weight], 1).flatten(0, 1)
            over_image.weight[:, :, 0] = signs
            over_time.weight.zero_()
            over_time.weight[range(count), range(0, width, 2), 1] = 1.0
            over_time.weight[range(count), range(1, width, 2), 1] = -1.0
            assert norm.running_var is not None
            # with mean 0 and weight 1 the norm changes nothing
            norm.running_var.fill_(1 - norm.eps)
    else:
        initialise(over_image)
        initialise(over_time)
    return nn.Sequential(over_image, norm, nn.ReLU(inplace=True), over_time).train(conv.training)


def _norm(norm: nn.BatchNorm2d) -> nn.BatchNorm3d:
    new = nn.BatchNorm3d(norm.num_features, norm.eps, norm.momentum, device=norm.weight.device)
    new.load_state_dict(norm.state_dict(), assign=True)
    return new.train(norm.training)


def _pool(pool: nn.MaxPool2d | nn.AvgPool2d, strides: bool) -> nn.Module:
    size, stride, padding = (
        (1, value, value) if isinstance(value, int) else (1, *value)
        for value in (pool.kernel_size, pool.stride, pool.padding)
    )
    edge = (0, *padding[1:])
    stride = (stride[1], *stride[1:]) if strides else stride
    if isinstance(pool, nn.MaxPool2d):
        return nn.MaxPool3d(size, stride, edge, ceil_mode=pool.ceil_mode)
    return nn.AvgPool3d(size, stride, edge, pool.ceil_mode, pool.count_include_pad)
