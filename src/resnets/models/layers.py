"""Stems, stem poolings and shortcuts that ResNet-50 does not need."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.models.resnet import Downsample, Shortcut, conv1x1, conv3x3, projection


def cifar_stem(in_channels: int, width: int) -> dict[str, nn.Module]:
    """One 3x3 convolution at full size, for images of about 32 px (He et al. 2015, section
    4.2)."""
    return _stem(conv3x3(in_channels, width), width, nn.Identity())


def bare_stem(in_channels: int, width: int) -> dict[str, nn.Module]:
    """The same without norm and ReLU: the first dense layer brings them (Huang et al. 2017, section
    3)."""
    return {**cifar_stem(in_channels, width), "bn1": nn.Identity(), "relu": nn.Identity()}


def deep_stem(in_channels: int, width: int, first: float = 0.5) -> dict[str, nn.Module]:
    """Three 3x3 convolutions, the first at stride 2 (He et al. 2018, arXiv:1812.01187, ResNet-C):
    half the width, half, all.

    Args:
        in_channels: Of the images.
        width: Of what comes out.
        first: The part of it that the first convolution has; 3/8 in the tiered stem of timm's `t`
            networks.
    """
    one, two = int(width * first), width // 2
    convs = nn.Sequential(
        *(conv3x3(in_channels, one, 2), nn.BatchNorm2d(one), nn.ReLU(inplace=True)),
        *(conv3x3(one, two), nn.BatchNorm2d(two), nn.ReLU(inplace=True)),
        conv3x3(two, width),
    )
    return _stem(convs, width, nn.MaxPool2d(3, stride=2, padding=1))


def _stem(conv: nn.Module, width: int, pool: nn.Module) -> dict[str, nn.Module]:
    return {
        "conv1": conv,
        "bn1": nn.BatchNorm2d(width),
        "relu": nn.ReLU(inplace=True),
        "maxpool": pool,
    }


def conv_pool(width: int) -> nn.Module:
    """A strided 3x3 convolution instead of pooling (ResNet-RS: Bello et al. 2021,
    arXiv:2103.07579)."""
    return nn.Sequential(conv3x3(width, width, 2), nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def zero_padded_pool(width: int) -> nn.Module:
    """Max pooling with a border of zeros (BiT: Kolesnikov et al. 2020): before it stands no ReLU,
    so zero may win."""
    return nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(3, stride=2))


def no_pool(width: int) -> nn.Module:
    """The first stage works at half the size."""
    return nn.Identity()


class ZeroPad(nn.Module):
    """Every stride-th pixel, and zeros for the channels that are new: a shortcut without
    parameters."""

    def __init__(self, extra_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels, self.stride = extra_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        half = self.extra_channels // 2
        return F.pad(
            x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.extra_channels - half)
        )


class NoShortcut(nn.Module):
    """Adds nothing: with it a residual network is the plain network of the paper's comparison."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros((), dtype=x.dtype, device=x.device)


def no_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """A plain network: the branch stands alone."""
    return NoShortcut()


def zero_pad(in_channels: int, out_channels: int, stride: int) -> Downsample:
    """The identity, or zero padding where the shape changes (option A of section 3.3)."""
    if stride == 1 and in_channels == out_channels:
        return None
    if out_channels < in_channels:
        raise ValueError(
            f"shortcut=zero_pad cannot go from {in_channels} to {out_channels} channels; use"
            " shortcut=projection"
        )
    return ZeroPad(out_channels - in_channels, stride)


def projection_everywhere(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """A 1x1 convolution and its norm in every block (option C of section 3.3)."""
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


def average(in_channels: int, out_channels: int, stride: int) -> Downsample:
    """Means of 2x2, then a 1x1 convolution at stride 1 and its norm (ResNet-D): no pixel is left
    out."""
    if stride == 1 and in_channels == out_channels:
        return None
    pool = (
        nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
        if stride > 1
        else nn.Identity()
    )
    return nn.Sequential(pool, conv1x1(in_channels, out_channels), nn.BatchNorm2d(out_channels))


def wide_projection(in_channels: int, out_channels: int, stride: int) -> Downsample:
    """A 3x3 convolution and its norm where the size shrinks, 1x1 where only the channels change
    (SENet-154)."""
    if stride == 1:
        return projection(in_channels, out_channels, stride)
    return nn.Sequential(conv3x3(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


def bare(shortcut: Shortcut) -> Shortcut:
    """The same without its norm: in pre-activation networks nothing stands between a sum and the
    next norm."""

    def make(in_channels: int, out_channels: int, stride: int) -> Downsample:
        module = shortcut(in_channels, out_channels, stride)
        if not isinstance(module, nn.Sequential):
            return module
        *layers, last = module.children()
        assert isinstance(last, nn.BatchNorm2d)
        return layers[0] if len(layers) == 1 else nn.Sequential(*layers)

    return make
