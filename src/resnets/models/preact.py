"""Blocks whose norm and activation come before each convolution, so that the shortcut is a clean sum from end to end.

He et al., Identity Mappings in Deep Residual Networks, 2016 (arXiv:1603.05027), figure 4(e). Where the shape changes, the
shortcut starts from the pre-activated input, as in the authors' code.
"""

from __future__ import annotations

from torch import Tensor, nn

from resnets.models.resnet import conv1x1, conv3x3


class PreActBasicBlock(nn.Module):
    """(norm, ReLU, 3x3) twice beside a shortcut."""

    expansion = 1
    preactivated = True
    spatial = "conv1"
    branch_end = "conv2"

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.se, self.drop_path = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(x))
        shortcut = x if self.downsample is None else self.downsample(out)
        out = self.conv1(out)
        out = self.conv2(self.relu(self.bn2(out)))
        return self.drop_path(self.se(out)) + shortcut


class PreActBottleneck(nn.Module):
    """(norm, ReLU, convolution) for 1x1, 3x3 and 1x1 beside a shortcut."""

    expansion = 4
    preactivated = True
    spatial = "conv2"
    branch_end = "conv3"
    stride_in = "3x3"
    groups, group_width, reduce_first = 1, 64, 1

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        mid_channels = out_channels // self.expansion * self.group_width // 64 * self.groups
        first_channels = mid_channels // self.reduce_first
        stride1, stride2 = (stride, 1) if self.stride_in == "1x1" else (1, stride)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv1x1(in_channels, first_channels, stride1)
        self.bn2 = nn.BatchNorm2d(first_channels)
        self.conv2 = conv3x3(first_channels, mid_channels, stride2, self.groups)
        self.bn3 = nn.BatchNorm2d(mid_channels)
        self.conv3 = conv1x1(mid_channels, out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.se, self.drop_path = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(x))
        shortcut = x if self.downsample is None else self.downsample(out)
        out = self.conv1(out)
        out = self.conv2(self.relu(self.bn2(out)))
        out = self.conv3(self.relu(self.bn3(out)))
        return self.drop_path(self.se(out)) + shortcut
