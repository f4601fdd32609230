"""Networks by name: a row, its setting with all changes made, and the network.

`"resnet50 attention=eca stem=deep"` is the row resnet50 with two changes; the same text serves
Python, the command line, metadata and reports.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Unpack

from torch import nn

from resnets.models.build import BUILDERS
from resnets.models.features import Features
from resnets.models.resnet import BasicBlock, Bottleneck, ResNet
from resnets.models.rewrite import save_memory
from resnets.models.rows import ROWS
from resnets.models.setting import Changes, ResNetSetting, Setting, check_options
from resnets.settings import change, format_changes, nearest, parse_changes

# Published under these names, but each needs an option that no other does: the stop rule of
# the grammar
REFUSED = {
    "legacy_*": "its stem pools without padding and its weights are named in another way",
    "*_pruned": "every convolution has a width of its own",
    "*_evos": "its norm, EvoNorm, is in no other network",
    "*_frn": "its norm, FRN with TLU, is in no other network",
    "quantized_*": (
        "its integer form belongs to one version of PyTorch; export and quantise resnet18 or"
        " resnet50 instead"
    ),
    "test_resnet": "it mixes kinds of blocks, for tests of timm",
    "ig_resnext101_32x*": (
        "in timm this name builds resnext101_32x8d whatever it says; take that, or"
        " resnext101_32x16d, 32x32d"
    ),
    "resnext101_32x48d": "timm names weights for it but no network",
}
NOWHERE = ("quantized_*", "ig_resnext101_32x*", "resnext101_32x48d")  # not in timm either


@dataclass(frozen=True)
class Network:
    """A network as data: the name of a row, its setting with all changes made, classes and
    channels.

    `str()` gives the text that `Network.parse` reads back: `"resnet50 shortcut=none"`.
    """

    name: str
    setting: Setting
    num_classes: int
    in_channels: int = 3

    def __post_init__(self) -> None:
        counts = (self.num_classes, self.in_channels)
        whole = all(isinstance(one, Integral) and one is not True for one in counts)
        if not whole or self.num_classes < 0 or self.in_channels < 1:
            raise ValueError(
                f"{self.name}: {self.num_classes} classes and {self.in_channels} channels; "
                "at least 0 (none, for the pooled features) and 1"
            )

    @classmethod
    def parse(
        cls, text: str, num_classes: int | None = None, in_channels: int = 3, **changes: Any
    ) -> Network:
        """From `"NAME key=value ..."` and further changes; the classes are by default those of the
        row.

        Raises:
            ValueError: An unknown name, key or value, with the nearest that is known, or what makes
                no sense together.
        """
        if not isinstance(text, str):
            raise ValueError(f"a network by its name expected, got {type(text).__name__}")
        name, written = parse_changes(text)
        if name not in ROWS:
            raise ValueError(f"unknown network {name!r}: {_why_not(name)}")
        row = ROWS[name]
        check_options(type(row.setting), name, [*written, *changes])
        setting = change(row.setting, {**written, **changes})
        try:
            setting.check()
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        return cls(name, setting, row.classes if num_classes is None else num_classes, in_channels)

    def __str__(self) -> str:
        return f"{self.name} {format_changes(self.setting, ROWS[self.name].setting)}".strip()

    @property
    def is_clip(self) -> bool:
        """Whether it takes clips instead of images."""
        return getattr(self.setting, "time", ("none",)) != ("none",)

    @property
    def for_images(self) -> Network:
        """The network for images whose weights its backbone takes, or can be inflated from; itself
        where there is none: (2+1)-D convolutions are as wide as the paper's."""
        time = getattr(self.setting, "time", ("none",))
        own = getattr(ROWS[self.name].setting, "time", ("none",))
        if time == own or "2plus1" in time:
            return self
        assert isinstance(self.setting, ResNetSetting)
        return dataclasses.replace(self, setting=dataclasses.replace(self.setting, time=own))

    def build(self) -> nn.Module:
        """The network, initialised at random."""
        return BUILDERS[type(self.setting)](self.setting, self.num_classes, self.in_channels)


def create_model(
    name: str,
    num_classes: int | None = None,
    in_channels: int = 3,
    *,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    checkpointing: bool = False,
    **changes: Unpack[Changes],
) -> nn.Module:
    """A network of the family by its name, with changes: `create_model("resnet50", num_classes=10,
    shortcut="none")`.

    Args:
        name: A name of `list_models()`; changes may follow it, `"resnet50 shortcut=none"`.
        num_classes: Outputs; by default the row's own (1000, or 10 for CIFAR networks); 0 gives the
            pooled features.
        in_channels: Channels of the images.
        features_only: The maps of its stages instead of classes, see `Features`.
        out_indices: Of which stages.
        checkpointing: Save memory in training by computing twice, see `save_memory`.
        **changes: Fields of its setting (`ResNetSetting`, `DenseNetSetting`, `TransformerSetting`).

    Raises:
        ValueError: An unknown name, key or value, with the nearest that is known, or what makes no
            sense together.
    """
    if out_indices is not None and not features_only:
        raise ValueError("out_indices needs features_only=True")
    net = Network.parse(name, num_classes, in_channels, **changes).build()
    if checkpointing:
        save_memory(net)
    return Features(net, out_indices) if features_only else net


def list_models(pattern: str = "*") -> list[str]:
    """Names of all rows that match a shell pattern."""
    return fnmatch.filter(ROWS, pattern)


def ResNet18(num_classes: int = 1000) -> ResNet:
    """11.7 M parameters, 1.8 G multiply-adds at 224 px."""
    return ResNet(BasicBlock, [2, 2, 2, 2], num_classes)


def ResNet34(num_classes: int = 1000) -> ResNet:
    """21.8 M parameters, 3.7 G multiply-adds at 224 px."""
    return ResNet(BasicBlock, [3, 4, 6, 3], num_classes)


def ResNet50(num_classes: int = 1000) -> ResNet:
    """25.6 M parameters, 4.1 G multiply-adds at 224 px."""
    return ResNet(Bottleneck, [3, 4, 6, 3], num_classes)


def ResNet101(num_classes: int = 1000) -> ResNet:
    """44.5 M parameters, 7.8 G multiply-adds at 224 px."""
    return ResNet(Bottleneck, [3, 4, 23, 3], num_classes)


def ResNet152(num_classes: int = 1000) -> ResNet:
    """60.2 M parameters, 11.5 G multiply-adds at 224 px."""
    return ResNet(Bottleneck, [3, 8, 36, 3], num_classes)


def _why_not(name: str) -> str:
    for pattern, reason in REFUSED.items():
        if fnmatch.fnmatch(name, pattern):
            elsewhere = f". As it is, it can be had as timm:{name}"
            return reason if pattern in NOWHERE else reason + elsewhere
    return nearest(name, ROWS)
