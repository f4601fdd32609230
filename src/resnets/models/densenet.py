"""DenseNet: every layer sees the maps of all layers before it, side by side instead of added.

Huang et al., Densely Connected Convolutional Networks, 2017 (arXiv:1608.06993), the BC form;
parameters are named as in torchvision. DenseNet-121 is `DenseNet(32, [6, 12, 24, 16])`; the shapes
are its own, for one 224 x 224 image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from resnets.models.parts import check_input, initialise, make_head
from resnets.models.resnet import Stem, conv1x1, conv3x3, imagenet_stem


class DenseLayer(nn.Module):
    """(norm, ReLU, 1x1) to four times the growth, (norm, ReLU, 3x3) to the growth."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv1x1(in_channels, 4 * growth)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = conv3x3(4 * growth, growth)
        self.relu = nn.ReLU(inplace=True)

    def narrow(self, *maps: Tensor) -> Tensor:
        """The 1x1 half, where most of the memory goes: its input is all maps so far."""
        return self.conv1(self.relu(self.norm1(torch.cat(maps, 1))))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.conv2(self.relu(self.norm2(self.narrow(*maps))))


class DenseBlock(nn.ModuleDict):
    """Layers of which each adds `growth` channels: (N, C, H, W) -> (N, C + depth * growth, H,
    W)."""

    def __init__(self, in_channels: int, depth: int, growth: int) -> None:
        super().__init__(
            {
                f"denselayer{i + 1}": DenseLayer(in_channels + i * growth, growth)
                for i in range(depth)
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.values():
            maps.append(layer(maps))
        return torch.cat(maps, 1)


class Transition(nn.Module):
    """Half of the channels, half of the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv = conv1x1(channels, channels // 2)
        self.pool = nn.AvgPool2d(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(self.relu(self.norm(x))))


class DenseNet(nn.Module):
    """A densely connected network for images.

    Args:
        growth: Channels that each layer adds.
        layers: Dense layers in each block.
        num_classes: Outputs; 0 gives the pooled features instead.
        in_channels: Channels of the images.
        stem: Makes the modules before the first block.
    """

    def __init__(
        self,
        growth: int,
        layers: Sequence[int],
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        stem: Stem = imagenet_stem,
    ) -> None:
        super().__init__()
        if growth < 1 or min(layers, default=0) < 1:
            raise ValueError(f"growth {growth}, {list(layers)} layers: at least 1 each")
        parts = stem(in_channels, 2 * growth)
        self.features = nn.Module()
        flat = [
            *(parts["conv1"] if isinstance(parts["conv1"], nn.Sequential) else [parts["conv1"]]),
            parts["bn1"],
            parts["relu"],
        ]
        names = [
            f"{kind}{number}"
            for number in range(len(flat) // 3)
            for kind in ("conv", "norm", "relu")
        ]
        for name, module in zip(names, flat, strict=True):
            self.features.add_module(name, module)
        self.features.add_module("pool0", parts["maxpool"])  # (N, 3, 224, 224) -> (N, 64, 56, 56)
        self.stem_names = names
        channels = 2 * growth
        self.depth = len(layers)
        for number, depth in enumerate(layers, 1):
            self.features.add_module(f"denseblock{number}", DenseBlock(channels, depth, growth))
            channels += depth * growth  # (N, 256, 56, 56) .. (N, 1024, 7, 7)
            if number < len(layers):
                self.features.add_module(f"transition{number}", Transition(channels))
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.num_features = channels
        self.classifier = make_head(channels, num_classes)
        halvings = 2 ** (len(layers) - 1)
        self.smallest = (
            halvings if isinstance(parts["maxpool"], nn.Identity) else 4 * (halvings - 1) + 1
        )
        initialise(self, mode="fan_in")

    def stages(self) -> list[list[nn.Module]]:
        """The dense layers of each block, behind the transition that leads to it."""
        parts = dict(self.features.named_children())
        before = [
            [parts[name]] if (name := f"transition{number}") in parts else []
            for number in range(self.depth)
        ]
        return [
            one + [*parts[f"denseblock{number}"].children()] for number, one in enumerate(before, 1)
        ]

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """What comes out of the stem, before its pooling, and of each block: (N, C, H, W) each."""
        check_input(self, x)
        for name in self.stem_names:
            x = self.features.get_submodule(name)(x)
        maps = [x]
        x = self.features.get_submodule("pool0")(x)
        for number in range(1, self.depth + 1):
            x = self.features.get_submodule(f"denseblock{number}")(x)
            maps.append(x)
            if number < self.depth:
                x = self.features.get_submodule(f"transition{number}")(x)
        maps[-1] = self.relu(self.features.get_submodule("norm5")(x))
        return maps

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature maps: (N, C, H, W) -> (N, 1024, H / 32, W / 32)."""
        return self.forward_stages(x)[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Images, normalised (N, C, H, W), to logits (N, num_classes)."""
        return self.classifier(self.avgpool(self.forward_features(x)).flatten(1))

    def get_classifier(self) -> nn.Module:
        """The linear layer on the pooled feature maps: what class activation maps need."""
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """A new, random classifier for other classes; 0 for none."""
        self.classifier = make_head(self.num_features, num_classes)
