"""Every named network as one row of data beside its parameter count, and the words that change one.

Counts are for 1000 classes (ImageNet rows; torchvision's metadata) or 10 (CIFAR rows). Those of He et al. 2015, table 6, and
2016, table 4, are rounded; the exact ones follow from the text and are held by a test.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from resnets.models import layers
from resnets.models.preact import PreActBasicBlock, PreActBottleneck
from resnets.models.resnet import BasicBlock, Bottleneck, ResNet, imagenet_stem, projection
from resnets.settings import change, nearest, parse_words, word, words


@dataclass(frozen=True)
class ResNetSetting:
    """What can be chosen in a residual network; the defaults are ResNet-50's.

    Args:
        block: `basic` or `bottleneck`.
        depths: Blocks in each stage.
        widths: Channels of each stage, before the block's expansion.
        order: `post` (convolution, norm, activation) or `pre` (norm, activation, convolution).
        stem: `imagenet` or `cifar`.
        shortcut: `projection` where the shape changes (option B), `zero_pad` there (A), `projection_everywhere` (C), or
            `none`, the plain network.
        stride_in: The convolution of a bottleneck that strides: `3x3`, or `1x1` as in the paper.
        zero_init: Start every block as the identity.
    """

    block: str = "bottleneck"
    depths: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    order: str = "post"
    stem: str = "imagenet"
    shortcut: str = "projection"
    stride_in: str = "3x3"
    zero_init: bool = False


BLOCKS = {
    ("post", "basic"): BasicBlock,
    ("post", "bottleneck"): Bottleneck,
    ("pre", "basic"): PreActBasicBlock,
    ("pre", "bottleneck"): PreActBottleneck,
}
STEMS = {"imagenet": imagenet_stem, "cifar": layers.cifar_stem}
SHORTCUTS = {
    ("post", "projection"): projection,
    ("pre", "projection"): layers.bare_projection,
    ("post", "projection_everywhere"): layers.projection_everywhere,
    ("pre", "projection_everywhere"): layers.bare_projection_everywhere,
    ("post", "zero_pad"): layers.zero_pad,
    ("pre", "zero_pad"): layers.zero_pad,
    ("post", "none"): layers.no_shortcut,
    ("pre", "none"): layers.no_shortcut,
}


def _cifar(blocks: int, block: str = "basic", order: str = "post", shortcut: str = "zero_pad") -> ResNetSetting:
    """Section 4.2 of He et al. 2015: three stages of n blocks at 32, 16 and 8 px."""
    return ResNetSetting(block, (blocks,) * 3, (16, 32, 64), order, stem="cifar", shortcut=shortcut)


ROWS: dict[str, tuple[ResNetSetting, int]] = {
    "resnet18": (ResNetSetting("basic", (2, 2, 2, 2)), 11_689_512),
    "resnet34": (ResNetSetting("basic", (3, 4, 6, 3)), 21_797_672),
    "resnet50": (ResNetSetting("bottleneck", (3, 4, 6, 3)), 25_557_032),
    "resnet101": (ResNetSetting("bottleneck", (3, 4, 23, 3)), 44_549_160),
    "resnet152": (ResNetSetting("bottleneck", (3, 8, 36, 3)), 60_192_808),
    "resnet20": (_cifar(3), 269_722),
    "resnet32": (_cifar(5), 464_154),
    "resnet44": (_cifar(7), 658_586),
    "resnet56": (_cifar(9), 853_018),
    "resnet110": (_cifar(18), 1_727_962),
    "resnet1202": (_cifar(200), 19_421_274),
    "preresnet110": (_cifar(18, "basic", "pre", "projection"), 1_730_522),
    "preresnet164": (_cifar(18, "bottleneck", "pre", "projection"), 1_703_258),
    "preresnet1001": (_cifar(111, "bottleneck", "pre", "projection"), 10_327_706),
}


@dataclass(frozen=True)
class Network:
    """A network as data: the name of a row, its setting with all changes made, classes and channels.

    `str()` gives the words that `Network.parse` reads back: `"resnet50 shortcut=none"`.
    """

    name: str
    setting: ResNetSetting
    num_classes: int
    in_channels: int = 3

    def __post_init__(self) -> None:
        if min(self.num_classes, self.in_channels) < 1:
            raise ValueError(f"{self.name}: {self.num_classes} classes and {self.in_channels} channels; each must be at least 1")

    @classmethod
    def parse(cls, text: str, num_classes: int | None = None, in_channels: int = 3, **changes: Any) -> Network:
        """From `"NAME key=value ..."` and further changes; the classes are by default those of the row.

        Raises:
            ValueError: An unknown name, key or value, with the nearest that is known.
        """
        name, written = parse_words(text)
        if name not in ROWS:
            raise ValueError(f"unknown network {name!r}: {nearest(name, ROWS)}")
        setting = change(ROWS[name][0], {**written, **changes})
        _validate(setting)
        default_classes = 10 if ROWS[name][0].stem == "cifar" else 1000
        return cls(name, setting, default_classes if num_classes is None else num_classes, in_channels)

    def __str__(self) -> str:
        return f"{self.name} {words(self.setting, ROWS[self.name][0])}".strip()

    def build(self) -> ResNet:
        """The network, initialised at random."""
        setting = self.setting
        return ResNet(
            _block(setting),
            setting.depths,
            self.num_classes,
            in_channels=self.in_channels,
            widths=setting.widths,
            stem=STEMS[setting.stem],
            shortcut=SHORTCUTS[setting.order, setting.shortcut],
            zero_init=setting.zero_init,
        )


def create_model(name: str, num_classes: int | None = None, in_channels: int = 3, **changes: Any) -> nn.Module:
    """A network of the family by its name, with changes: `create_model("resnet50", num_classes=10, shortcut="none")`.

    Args:
        name: A name of `list_models()`; changes may follow it as words, `"resnet50 shortcut=none"`.
        num_classes: Outputs; by default the row's own (1000, or 10 for CIFAR networks).
        in_channels: Channels of the pictures.
        **changes: Fields of `ResNetSetting`.

    Raises:
        ValueError: An unknown name, key or value, with the nearest that is known.
    """
    return Network.parse(name, num_classes, in_channels, **changes).build()


def list_models(pattern: str = "*") -> list[str]:
    """Names of all rows that match a shell pattern."""
    return fnmatch.filter(ROWS, pattern)


def _block(setting: ResNetSetting) -> type[nn.Module]:
    """The block class; options of a block are class attributes, so a variant is a subclass."""
    block = BLOCKS[setting.order, setting.block]
    return block if setting.stride_in == "3x3" else type(block.__name__, (block,), {"stride_in": setting.stride_in})


def _validate(setting: ResNetSetting) -> None:
    allowed: Mapping[str, set[str]] = {
        "block": {block for _, block in BLOCKS},
        "order": {order for order, _ in BLOCKS},
        "stem": set(STEMS),
        "shortcut": {shortcut for _, shortcut in SHORTCUTS},
        "stride_in": {"3x3", "1x1"},
    }
    for key, values in allowed.items():
        if getattr(setting, key) not in values:
            raise ValueError(f"{key}={getattr(setting, key)}: {nearest(getattr(setting, key), values)}")
    if not setting.depths or len(setting.widths) != len(setting.depths) or min(setting.depths + setting.widths) < 1:
        raise ValueError(
            f"depths={word(setting.depths)} widths={word(setting.widths)}: every stage needs one width, and a block at least; "
            "give both with as many numbers as there are stages"
        )
    if setting.stride_in == "1x1" and setting.block == "basic":
        raise ValueError("stride_in=1x1 needs block=bottleneck: a basic block has no 1x1 convolution")
