"""How a setting becomes a network: what each of its options stands for, and the steps from one to
the other."""

from __future__ import annotations

from functools import partial
from typing import Any

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
from resnets.models.framewise import FRAMEWISE, Framewise
from resnets.models.inflation import inflate
from resnets.models.parts import initialise, zero_branches
from resnets.models.preact import PreActBasicBlock, PreActBottleneck
from resnets.models.resnet import BasicBlock, Bottleneck, ResNet, imagenet_stem, projection
from resnets.models.rewrite import (
    BlurPool,
    antialias,
    dilate,
    drop_paths,
    group_norms,
    standardise,
)
from resnets.models.setting import DenseNetSetting, ResNetSetting, Setting, TransformerSetting
from resnets.models.vit import VisionTransformer

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
        stages = [list(getattr(net, name)) for name in net.stage_names]
        dilate(stages, stride, setting.output_stride)
    if setting.time[0] in FRAMEWISE and len(setting.time) == 1:
        return Framewise(net, num_classes, setting.time[0])
    if setting.time != ("none",):
        inflate(net, setting.time if len(setting.time) > 1 else setting.time[0], published=True)
    return net


def _block(setting: ResNetSetting) -> type[nn.Module]:
    """The block class; its options are class attributes, so a variant is a subclass."""
    block = BLOCKS[setting.order, setting.block]
    options = ("stride_in", "groups", "group_width", "reduce_first")
    changed = {
        key: getattr(setting, key)
        for key in options
        if hasattr(block, key) and getattr(block, key) != getattr(setting, key)
    }
    return type(block.__name__, (block,), changed) if changed else block


def number_or_name(text: str) -> int | str:
    """`"16"` as the number it is."""
    return int(text) if text.isdigit() else text


def _fill(block: Any, setting: ResNetSetting, first: bool) -> None:
    """Puts a block's spatial part and attention into their places."""
    kind, arguments = setting.spatial[0], map(number_or_name, setting.spatial[1:])
    if kind != "conv":
        make = partial(SPATIAL[kind], first=first) if kind == "res2" else SPATIAL[kind]
        setattr(block, block.spatial, make(getattr(block, block.spatial), *arguments))
        # the part brings its own norm and ReLU
        setattr(block, block.spatial.replace("conv", "bn"), nn.Identity())
        initialise(getattr(block, block.spatial))
    kind, arguments = setting.attention[0], map(number_or_name, setting.attention[1:])
    if kind != "none":
        end = block.get_submodule(block.branch_end)
        channels = getattr(end, "num_features", None) or end.out_channels
        block.se = ATTENTIONS[kind](channels, *arguments)
        initialise(block.se)


def build_densenet(setting: DenseNetSetting, num_classes: int, in_channels: int) -> nn.Module:
    """A densely connected network."""
    stem = layers.bare_stem if setting.stem == "cifar" else STEMS[setting.stem]
    net = DenseNet(setting.growth, setting.depths, num_classes, in_channels=in_channels, stem=stem)
    if setting.antialias == "blur":
        net.features.pool0 = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), BlurPool())
        net.smallest = max(3, net.smallest)
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
