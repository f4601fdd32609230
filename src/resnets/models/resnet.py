"""The residual network, top to bottom: two blocks, a stem, a shortcut, and the network of them.

He et al., Deep Residual Learning for Image Recognition, 2015 (arXiv:1512.03385). Parameters are
named as in torchvision. ResNet-50 is `ResNet(Bottleneck, [3, 4, 6, 3])`; the shapes beside the code
are its own, for one 224 x 224 image.

Each block has three places that stay empty in ResNet-50: `pool` behind its 3x3 convolution, `se`
and `drop_path` at the end of its branch. What the rest of the family puts there is in `attention`,
`layers` and `rewrite`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from resnets.models.parts import (
    check_input,
    check_stages,
    initialise,
    make_head,
    zero_branches,
)

Downsample = nn.Module | None  # a shortcut that changes the shape; None is the identity
# (in_channels, out_channels, stride) -> the shortcut of a block
Shortcut = Callable[[int, int, int], Downsample]
# (in_channels, width) -> conv1, bn1, relu and maxpool
Stem = Callable[[int, int], dict[str, Any]]


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size at stride 1; no bias, since a norm follows."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, groups=groups, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A linear map of the channels at every place; no bias, since a norm follows."""
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (section 3.3): the block of ResNet-18 and 34."""

    expansion = 1  # the block gives out_channels * expansion channels
    spatial = "conv1"  # the convolution that strides
    branch_end = "bn2"  # what `zero_init` sets to zero, so that the block starts as the identity

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, downsample: Downsample = None
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = downsample
        self.pool, self.se, self.drop_path = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.pool(self.relu(self.bn1(self.conv1(x))))
        out = self.bn2(self.conv2(out))
        out = self.drop_path(self.se(out))
        out += shortcut
        return self.relu(out)


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up, beside a shortcut (section 4.1): the block of ResNet-50, 101 and 152.

    `groups` and `group_width` make it a ResNeXt (Xie et al. 2017, arXiv:1611.05431) or a Wide
    ResNet block (Zagoruyko and Komodakis 2016, arXiv:1605.07146); `reduce_first` halves the first
    1x1 of SENet-154 (Hu et al. 2018, arXiv:1709.01507).
    """

    expansion = 4
    spatial = "conv2"
    branch_end = "bn3"
    # v1.5, as in torchvision; "1x1" strides in the first convolution, as the paper does
    stride_in = "3x3"
    groups, reduce_first = 1, 1
    group_width = 64  # channels of a group where out_channels is 64; it grows with them

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, downsample: Downsample = None
    ) -> None:
        super().__init__()
        mid_channels = out_channels * self.group_width // 64 * self.groups
        first_channels = mid_channels // self.reduce_first
        stride1, stride2 = (stride, 1) if self.stride_in == "1x1" else (1, stride)
        self.conv1 = conv1x1(in_channels, first_channels, stride1)
        self.bn1 = nn.BatchNorm2d(first_channels)
        self.conv2 = conv3x3(first_channels, mid_channels, stride2, self.groups)
        self.bn2 = nn.BatchNorm2d(mid_channels)
        self.conv3 = conv1x1(mid_channels, out_channels * self.expansion)
        self.bn3 = nn.BatchNorm2d(out_channels * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.pool, self.se, self.drop_path = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.pool(self.relu(self.bn2(self.conv2(out))))
        out = self.bn3(self.conv3(out))
        out = self.drop_path(self.se(out))
        out += shortcut
        return self.relu(out)


def imagenet_stem(in_channels: int, width: int) -> dict[str, nn.Module]:
    """7x7 at stride 2, then 3x3 max pooling at stride 2: stage 1 sees a quarter of the size."""
    return {
        "conv1": nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False),
        "bn1": nn.BatchNorm2d(width),
        "relu": nn.ReLU(inplace=True),
        "maxpool": nn.MaxPool2d(3, stride=2, padding=1),
    }


def projection(in_channels: int, out_channels: int, stride: int) -> Downsample:
    """A 1x1 convolution and its norm where the shape changes (option B of section 3.3)."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


class ResNet(nn.Module):
    """A residual network for images.

    Args:
        block: A class `block(in_channels, out_channels, stride=1, downsample=None)` with a class
            attribute `expansion`, ours, torchvision's or your own. `out_channels` is the stage's
            width; the block gives `out_channels * expansion` channels. `downsample` is the
            shortcut to apply, None for the identity. A block with `preactivated = True` leaves
            norm and activation to the next, so the network ends with its own.
        layers: Blocks in each stage.
        num_classes: Outputs; 0 gives the pooled features instead.
        in_channels: Channels of the images.
        widths: Channels of each stage, before the block's expansion; by default 64, doubled from
            stage to stage.
        stem: Makes the modules before the first stage.
        shortcut: Makes the shortcut of a block.
        zero_init: Start every block as the identity by zeroing the end of its branch (Goyal et al.
            2017, section 5.1).

    Raises:
        ValueError: The block has no `expansion`, or a stage has no width or no block.
    """

    def __init__(
        self,
        block: Any,
        layers: Sequence[int],
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        widths: Sequence[int] | None = None,
        stem: Stem = imagenet_stem,
        shortcut: Shortcut = projection,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        widths = [64 * 2**stage for stage in range(len(layers))] if widths is None else widths
        check_stages(block, layers, widths)
        preactivated = getattr(block, "preactivated", False)

        parts = stem(in_channels, widths[0])  # (N, 3, 224, 224) -> (N, 64, 56, 56)
        channels = parts["bn1"].num_features
        self.conv1, self.bn1 = parts["conv1"], parts["bn1"]
        self.relu, self.maxpool = parts["relu"], parts["maxpool"]
        if preactivated:
            self.bn1, self.relu = nn.Identity(), nn.Identity()

        self.stage_names = [f"layer{number}" for number in range(1, len(layers) + 1)]
        for name, width, depth in zip(self.stage_names, widths, layers, strict=True):
            blocks = []
            for index in range(depth):
                stride = 2 if name != "layer1" and index == 0 else 1
                downsample = shortcut(channels, width * block.expansion, stride)
                blocks.append(block(channels, width, stride, downsample))
                channels = width * block.expansion
            self.add_module(name, nn.Sequential(*blocks))  # (N, 256, 56, 56) .. (N, 2048, 7, 7)

        self.norm = nn.BatchNorm2d(channels) if preactivated else nn.Identity()
        self.act = nn.ReLU(inplace=True) if preactivated else nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.num_features = channels
        self.fc = make_head(channels, num_classes)
        initialise(self)
        if zero_init:
            zero_branches(self)

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """What comes out of the stem, before its pooling, and of each stage: (N, C, H, W) each."""
        check_input(self, x)
        maps = [self.relu(self.bn1(self.conv1(x)))]
        x = self.maxpool(maps[0])
        for name in self.stage_names:
            x = getattr(self, name)(x)
            maps.append(x)
        maps[-1] = self.act(self.norm(x))
        return maps

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature maps: (N, C, H, W) -> (N, 2048, H / 32, W / 32)."""
        return self.forward_stages(x)[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Images, normalised (N, C, H, W), to logits (N, num_classes)."""
        return self.fc(self.avgpool(self.forward_features(x)).flatten(1))

    def get_classifier(self) -> nn.Module:
        """The linear layer on the pooled feature maps: what class activation maps need."""
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """A new, random classifier for other classes; 0 for none."""
        self.fc = make_head(self.num_features, num_classes)
