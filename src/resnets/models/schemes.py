"""The names that other libraries give to the weights of a network, and the replacements that make
them ours.

A scheme of names is a list of replacements, each tried on every key in turn; which schemes apply
follows from the network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from resnets.models.setting import DenseNetSetting, ResNetSetting, Setting, TransformerSetting

Rule = tuple[str, str | Callable[[re.Match[str]], str]]


def our_names(keys: Collection[str], setting: Setting) -> list[str]:
    """The names of a state dict as the network has them, in the same order."""
    rules, names = replacements(setting, keys), []
    for name in keys:
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        names.append(name)
    return names


def replacements(setting: Setting, keys: Collection[str]) -> list[Rule]:
    """The replacements for a network; what the names of a state dict look like decides where one
    network has several schemes."""
    if isinstance(setting, DenseNetSetting):
        return [(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.")]
    if isinstance(setting, TransformerSetting):
        return list(TORCHVISION_TRANSFORMER)
    if any(key.startswith("resnet/") for key in keys):
        return list(BIT)
    rules: list[Rule] = []
    if setting.order == "pre":
        rules += _resnetv2(setting)
    if setting.spatial[0] == "sk":
        rules += [
            (r"^(layer\d+\.\d+)\.conv(\d)\.conv\.", r"\1.conv\2."),
            (r"^(layer\d+\.\d+)\.conv(\d)\.bn\.", r"\1.bn\2."),
        ]
    if setting.spatial[0] == "res2":
        rules += [(r"^(layer\d+\.\d+)\.(convs|bns)\.", r"\1.conv2.\2.")]
    if setting.time != ("none",) and any(key.startswith("stem.") for key in keys):
        rules += _clips(setting)
    return rules


TORCHVISION_TRANSFORMER: tuple[Rule, ...] = (
    (r"^conv_proj\.", "patch_embed.proj."), (r"^class_token$", "cls_token"), (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."), (r"^encoder\.ln\.", "norm."), (r"^heads\.head\.", "head."),
    (r"\.ln_(\d)\.", r".norm\1."), (r"\.self_attention\.in_proj_", ".attn.qkv."), (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:linear_1|0)\.", ".mlp.fc1."), (r"\.mlp\.(?:linear_2|3)\.", ".mlp.fc2."),
)  # fmt: skip

BIT: tuple[Rule, ...] = (  # the npz files of Big Transfer, which name their layers a, b and c
    (r"^resnet/root_block/standardized_conv2d/", "conv1/"),
    (r"^resnet/block(\d+)/unit(\d+)/", lambda found: f"layer{found[1]}.{int(found[2]) - 1}/"),
    (r"/a/proj/standardized_conv2d/", ".downsample/"),
    (r"/([abc])/standardized_conv2d/", lambda found: f".conv{' abc'.index(found[1])}/"),
    (r"/([abc])/group_norm/", lambda found: f".bn{' abc'.index(found[1])}/"),
    (r"^resnet/group_norm/", "norm/"), (r"^resnet/head/conv2d/", "fc/"), (r"/(kernel|gamma)$", ".weight"),
    (r"/(bias|beta)$", ".bias"),
)  # fmt: skip


def _resnetv2(setting: ResNetSetting) -> list[Rule]:
    """timm's pre-activation networks."""
    deep = {
        "conv1": "conv1.0",
        "norm1": "conv1.1",
        "conv2": "conv1.3",
        "norm2": "conv1.4",
        "conv3": "conv1.6",
        "conv": "conv1",
    }
    shortcut = "downsample.1" if setting.shortcut == "average" else "downsample"
    return [
        *((rf"^stem\.{old}\.", f"{new}.") for old, new in deep.items()),
        (r"^stages\.(\d+)\.blocks\.", lambda found: f"layer{int(found[1]) + 1}."),
        (r"^(layer\d+\.\d+)\.norm(\d)\.", r"\1.bn\2."),
        (r"^(layer\d+\.\d+)\.downsample\.conv\.", rf"\1.{shortcut}."),
        (r"^head\.fc\.", "fc."),
    ]


def _clips(setting: ResNetSetting) -> list[Rule]:
    """torchvision's video networks, which nest convolution and norm."""
    stem = {"0": "conv1", "1": "bn1"}
    if setting.time[0] == "2plus1":
        stem = {"0": "conv1.0", "1": "conv1.1", "3": "conv1.3", "4": "bn1"}
    return [
        *((rf"^stem\.{old}\.", f"{new}.") for old, new in stem.items()),
        (r"^(layer\d+\.\d+)\.conv(\d)\.1\.", r"\1.bn\2."),
        (r"^(layer\d+\.\d+)\.conv(\d)\.0\.", r"\1.conv\2."),
    ]
