"""Networks by name, and how a setting becomes a network.

`"resnet50 attention=eca stem=deep"` is the row resnet50 with two changes; the same words serve
Python, the command line, metadata and reports.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any, Unpack

from torch import nn

from resnets.models import layers
from resnets.models.attention import (
    EfficientChannelAttention,
    Res2,
    SelectiveKernel,
    SplitAttention,
    squeeze_excitation,
)
from resnets.models.densenet import DenseNet
from resnets.models.features import Features
from resnets.models.inflate import inflate
from resnets.models.parts import initialise, zero_branches
from resnets.models.preact import PreActBasicBlock, PreActBottleneck
from resnets.models.resnet import BasicBlock, Bottleneck, ResNet, imagenet_stem, projection
from resnets.models.rewrite import (
    BlurPool,
    antialias,
    dilate,
    drop_paths,
    group_norms,
    save_memory,
    standardise,
)
from resnets.models.rows import ROWS
from resnets.models.setting import (
    Changes,
    DenseNetSetting,
    ResNetSetting,
    Setting,
    TransformerSetting,
    check_words,
)
from resnets.models.vit import VisionTransformer
from resnets.settings import change, nearest, parse_words, words

BLOCKS = {
    ("post", "basic"): BasicBlock,
    ("post", "bottleneck"): Bottleneck,
    ("pre", "basic"): PreActBasicBlock,
    ("pre", "bottleneck"): PreActBottleneck,
}
STEMS: dict[str, Any] = {
    "imagenet": imagenet_stem,
    "deep": layers.deep_stem,
    "tiered": partial(layers.deep_stem, first=3 / 8),
    "cifar": layers.cifar_stem,
}
STEM_POOLS = {"conv": layers.conv_pool, "zero": layers.zero_padded_pool, "none": layers.no_pool}
SHORTCUTS = {
    "projection": projection,
    "projection_everywhere": layers.projection_everywhere,
    "average": layers.average,
    "wide": layers.wide_projection,
    "zero_pad": layers.zero_pad,
    "none": layers.no_shortcut,
}
SPATIAL: dict[str, Any] = {"sk": SelectiveKernel, "res2": Res2, "split": SplitAttention}
ATTENTIONS: dict[str, Any] = {"se": squeeze_excitation, "eca": EfficientChannelAttention}


def build_resnet(setting: ResNetSetting, num_classes: int, in_channels: int) -> nn.Module:
    """A residual network: a plain one, and then what is different about it, one thing after the
    other."""
    stem, shortcut = STEMS[setting.stem], SHORTCUTS[setting.shortcut]
    net = ResNet(
        _block(setting),
        setting.depths,
        num_classes,
        in_channels=in_channels,
        widths=setting.widths,
        stem=lambda channels, width: stem(channels, setting.stem_width or width),
        shortcut=layers.bare(shortcut) if setting.order == "pre" else shortcut,
    )
    if setting.stem_pool != "max":
        net.maxpool = STEM_POOLS[setting.stem_pool](setting.stem_width or setting.widths[0])
        initialise(net.maxpool)
    for name in net.stage_names:
        for index, block in enumerate(getattr(net, name)):
            _fill(block, setting, first=index == 0)
    if setting.antialias != "none":
        antialias(net, setting.antialias)
    if setting.norm == "group":
        group_norms(net)
    if setting.conv == "standardised":
        standardise(net)
    if setting.drop_path:
        drop_paths(net, setting.drop_path)
    if setting.zero_init:
        zero_branches(net)
    if setting.output_stride < 32:
        stride = 2 if setting.stem_pool == "none" else 4  # of the stem
        dilate(
            [list(getattr(net, name)) for name in net.stage_names], stride, setting.output_stride
        )
    if setting.time != ("none",):
        inflate(net, setting.time if len(setting.time) > 1 else setting.time[0], published=True)
    return net


def _block(setting: ResNetSetting) -> type[nn.Module]:
    """The block class; its options are class attributes, so a variant is a subclass."""
    block = BLOCKS[setting.order, setting.block]
    options = {
        key: getattr(setting, key) for key in ("stride_in", "groups", "group_width", "reduce_first")
    }
    changed = {
        key: value
        for key, value in options.items()
        if hasattr(block, key) and getattr(block, key) != value
    }
    return type(block.__name__, (block,), changed) if changed else block


def number_or_word(text: str) -> int | str:
    """`"16"` as the number it is."""
    return int(text) if text.isdigit() else text


def _fill(block: Any, setting: ResNetSetting, first: bool) -> None:
    """Puts a block's spatial part and attention into their places."""
    kind, arguments = setting.spatial[0], map(number_or_word, setting.spatial[1:])
    if kind != "conv":
        make = partial(SPATIAL[kind], first=first) if kind == "res2" else SPATIAL[kind]
        setattr(block, block.spatial, make(getattr(block, block.spatial), *arguments))
        # the part brings its own norm and ReLU
        setattr(block, block.spatial.replace("conv", "bn"), nn.Identity())
        initialise(getattr(block, block.spatial))
    kind, arguments = setting.attention[0], map(number_or_word, setting.attention[1:])
    if kind != "none":
        end = block.get_submodule(block.branch_end)
        block.se = ATTENTIONS[kind](
            getattr(end, "num_features", None) or end.out_channels, *arguments
        )
        initialise(block.se)


def build_densenet(setting: DenseNetSetting, num_classes: int, in_channels: int) -> nn.Module:
    """A densely connected network."""
    stem = layers.bare_stem if setting.stem == "cifar" else STEMS[setting.stem]
    net = DenseNet(setting.growth, setting.depths, num_classes, in_channels=in_channels, stem=stem)
    if setting.antialias == "blur":
        net.features.pool0, net.smallest = (
            nn.Sequential(nn.MaxPool2d(3, 1, padding=1), BlurPool()),
            max(3, net.smallest),
        )
    if setting.output_stride < 32:
        dilate(net.stages(), 4, setting.output_stride)
    return net


def build_transformer(setting: TransformerSetting, num_classes: int, in_channels: int) -> nn.Module:
    """A residual Transformer."""
    net = VisionTransformer(setting, num_classes, in_channels)
    if setting.drop_path:
        drop_paths(net, setting.drop_path)
    return net


BUILDERS: dict[type[Setting], Any] = {
    ResNetSetting: build_resnet,
    DenseNetSetting: build_densenet,
    TransformerSetting: build_transformer,
}


# Published under these names, but each needs a word that no other network needs: the stop rule of
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

    `str()` gives the words that `Network.parse` reads back: `"resnet50 shortcut=none"`.
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
        name, written = parse_words(text)
        if name not in ROWS:
            raise ValueError(f"unknown network {name!r}: {_why_not(name)}")
        row = ROWS[name]
        check_words(type(row.setting), name, [*written, *changes])
        setting = change(row.setting, {**written, **changes})
        try:
            setting.check()
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        return cls(name, setting, row.classes if num_classes is None else num_classes, in_channels)

    def __str__(self) -> str:
        return f"{self.name} {words(self.setting, ROWS[self.name].setting)}".strip()

    @property
    def is_clip(self) -> bool:
        """Whether it takes clips instead of images."""
        return getattr(self.setting, "time", ("none",)) != ("none",)

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
        name: A name of `list_models()`; changes may follow it as words, `"resnet50 shortcut=none"`.
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
            return (
                reason
                if pattern in NOWHERE
                else f"{reason}. As it is, it can be had as timm:{name}"
            )
    return nearest(name, ROWS)
