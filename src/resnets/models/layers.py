"""Parts that ResNet-50 does not need: the CIFAR stem and the other shortcuts of the first paper."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.models.resnet import conv1x1, conv3x3


def cifar_stem(in_channels: int, width: int) -> dict[str, nn.Module]:
    """One 3x3 convolution at full size, for pictures of about 32 px (He et al. 2015, section 4.2)."""
    return {
        "conv1": conv3x3(in_channels, width),
        "bn1": nn.BatchNorm2d(width),
        "relu": nn.ReLU(inplace=True),
        "maxpool": nn.Identity(),
    }


class ZeroPad(nn.Module):
    """Every stride-th pixel, and zeros for the channels that are new: a shortcut without parameters."""

    def __init__(self, extra_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels, self.stride = extra_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        half = self.extra_channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.extra_channels - half))


class NoShortcut(nn.Module):
    """Adds nothing: with it a residual network is the plain network of the paper's comparison."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros((), dtype=x.dtype, device=x.device)


def zero_pad(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """The identity, or zero padding where the shape changes (option A of section 3.3)."""
    if stride == 1 and in_channels == out_channels:
        return None
    if out_channels < in_channels:
        raise ValueError(f"shortcut=zero_pad cannot go from {in_channels} to {out_channels} channels; use shortcut=projection")
    return ZeroPad(out_channels - in_channels, stride)


def projection_everywhere(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """A 1x1 convolution and its norm in every block (option C of section 3.3)."""
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


def bare_projection(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """The identity, or a 1x1 convolution alone where the shape changes: pre-activation blocks have no norm there."""
    return None if stride == 1 and in_channels == out_channels else conv1x1(in_channels, out_channels, stride)


def bare_projection_everywhere(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """A 1x1 convolution alone in every block."""
    return conv1x1(in_channels, out_channels, stride)


def no_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """A plain network: the branch stands alone."""
    return NoShortcut()
