"""Blocks whose norm and activation come before each convolution, so that the shortcut is a clean
sum from end to end.

He et al., Identity Mappings in Deep Residual Networks, 2016 (arXiv:1603.05027), figure 4(e). Where
the shape changes, the shortcut starts from the pre-activated input, as in the authors' code.
"""

from __future__ import annotations

from torch import Tensor, nn

from resnets.models.resnet import BasicBlock, Bottleneck, Downsample


class PreActBasicBlock(BasicBlock):
    """(norm, ReLU, 3x3) twice beside a shortcut."""

    preactivated = True
    branch_end = "conv2"

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, downsample: Downsample = None
    ) -> None:
        super().__init__(in_channels, out_channels, stride, downsample)
        self.bn1 = nn.BatchNorm2d(in_channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(x))
        shortcut = x if self.downsample is None else self.downsample(out)
        out = self.conv1(out)
        out = self.conv2(self.relu(self.bn2(out)))
        return self.drop_path(self.se(out)) + shortcut


class PreActBottleneck(Bottleneck):
    """(norm, ReLU, convolution) for 1x1, 3x3 and 1x1 beside a shortcut."""

    preactivated = True
    branch_end = "conv3"

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, downsample: Downsample = None
    ) -> None:
        super().__init__(in_channels, out_channels, stride, downsample)
        self.bn1, self.bn2, self.bn3 = (
            nn.BatchNorm2d(conv.in_channels) for conv in (self.conv1, self.conv2, self.conv3)
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(x))
        shortcut = x if self.downsample is None else self.downsample(out)
        out = self.conv1(out)
        out = self.conv2(self.relu(self.bn2(out)))
        out = self.conv3(self.relu(self.bn3(out)))
        return self.drop_path(self.se(out)) + shortcut
