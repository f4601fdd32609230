"""Other names for the same weights: state dicts of timm, of torchvision's other models and of the papers' files get our keys.

A scheme is a list of replacements, each tried on every key in turn; which schemes apply follows from the network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnets.models.setting import DenseNetSetting, ResNetSetting, Setting, TransformerSetting
from resnets.models.zoo import Network

Rule = tuple[str, str | Callable[[re.Match[str]], str]]

# What stands before the keys of a network that is part of another: DistributedDataParallel, Lightning, torchvision's detection and
# segmentation. All without it belongs to that other.
PREFIXES = ("module.", "model.", "net.", "backbone.body.", "backbone.")


def convert(state: Mapping[str, Any], model: str) -> dict[str, Tensor]:
    """A state dict in the scheme of another library, with our keys; one that has them already stays as it is.

    Read are timm's resnetv2, sknet and res2net, BiT's npz files, the old keys of DenseNet, torchvision's video networks and Vision
    Transformers, and the backbones inside its detection and segmentation models. A head of 1x1 convolution becomes linear.

    Args:
        state: Names to tensors (or arrays, from an npz file).
        model: The network in words, `"resnetv2_50x1_bit"`.

    Raises:
        ValueError: The network is unknown.
    """
    setting = Network.parse(model).setting
    state = {key: value for key, value in state.items() if not key.startswith(("rpn.", "roi_heads.", "aux_classifier."))}
    for prefix in PREFIXES:
        if any(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    rules = schemes(setting, state)
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        tensor = value if isinstance(value, Tensor) else _from_array(value)
        for pattern, new in rules:
            key = re.sub(pattern, new, key)
        result[key] = tensor.flatten(1) if key == "fc.weight" else tensor
    return result


def schemes(setting: Setting, state: Mapping[str, Any]) -> list[Rule]:
    """The replacements for a network; what a state dict looks like decides where one network has several schemes."""
    if isinstance(setting, DenseNetSetting):
        return [(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.")]
    if isinstance(setting, TransformerSetting):
        return list(TORCHVISION_TRANSFORMER)
    if any(key.startswith("resnet/") for key in state):
        return _bit(setting)
    rules: list[Rule] = []
    if setting.order == "pre":
        rules += _pre_activation(setting)
    if setting.spatial[0] == "sk":
        rules += [(r"^(layer\d+\.\d+)\.conv(\d)\.conv\.", r"\1.conv\2."), (r"^(layer\d+\.\d+)\.conv(\d)\.bn\.", r"\1.bn\2.")]
    if setting.spatial[0] == "res2":
        rules += [(r"^(layer\d+\.\d+)\.(convs|bns)\.", r"\1.conv2.\2.")]
    if setting.time != ("none",) and any(key.startswith("stem.") for key in state):
        rules += _clips(setting)
    return rules


TORCHVISION_TRANSFORMER: tuple[Rule, ...] = (
    (r"^conv_proj\.", "patch_embed.proj."), (r"^class_token$", "cls_token"), (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."), (r"^encoder\.ln\.", "norm."), (r"^heads\.head\.", "head."),
    (r"\.ln_(\d)\.", r".norm\1."), (r"\.self_attention\.in_proj_", ".attn.qkv."), (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:linear_1|0)\.", ".mlp.fc1."), (r"\.mlp\.(?:linear_2|3)\.", ".mlp.fc2."),
)  # fmt: skip


def _pre_activation(setting: ResNetSetting) -> list[Rule]:
    """timm's resnetv2."""
    deep = {"conv1": "conv1.0", "norm1": "conv1.1", "conv2": "conv1.3", "norm2": "conv1.4", "conv3": "conv1.6", "conv": "conv1"}
    shortcut = "downsample.1" if setting.shortcut == "average" else "downsample"
    return [
        *((rf"^stem\.{old}\.", f"{new}.") for old, new in deep.items()),
        (r"^stages\.(\d+)\.blocks\.", lambda found: f"layer{int(found[1]) + 1}."),
        (r"^(layer\d+\.\d+)\.norm(\d)\.", r"\1.bn\2."),
        (r"^(layer\d+\.\d+)\.downsample\.conv\.", rf"\1.{shortcut}."),
        (r"^head\.fc\.", "fc."),
    ]


def _bit(setting: ResNetSetting) -> list[Rule]:
    """The npz files of Big Transfer, which name their layers a, b and c."""
    return [
        (r"^resnet/root_block/standardized_conv2d/", "conv1/"),
        (r"^resnet/block(\d+)/unit(\d+)/", lambda found: f"layer{found[1]}.{int(found[2]) - 1}/"),
        (r"/a/proj/standardized_conv2d/", ".downsample/"),
        (r"/([abc])/standardized_conv2d/", lambda found: f".conv{' abc'.index(found[1])}/"),
        (r"/([abc])/group_norm/", lambda found: f".bn{' abc'.index(found[1])}/"),
        (r"^resnet/group_norm/", "norm/"),
        (r"^resnet/head/conv2d/", "fc/"),
        (r"/(kernel|gamma)$", ".weight"),
        (r"/(bias|beta)$", ".bias"),
    ]


def _clips(setting: ResNetSetting) -> list[Rule]:
    """torchvision's video networks, which nest convolution and norm."""
    split = setting.time[0] == "2plus1"
    stem = {"0": "conv1.0", "1": "conv1.1", "3": "conv1.3", "4": "bn1"} if split else {"0": "conv1", "1": "bn1"}
    return [
        *((rf"^stem\.{old}\.", f"{new}.") for old, new in stem.items()),
        (r"^(layer\d+\.\d+)\.conv(\d)\.1\.", r"\1.bn\2."),
        (r"^(layer\d+\.\d+)\.conv(\d)\.0\.", r"\1.conv\2."),
    ]


def _from_array(value: Any) -> Tensor:
    """An array of TensorFlow's: kernels are (height, width, in, out) there."""
    array = np.asarray(value)
    return torch.from_numpy(np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array))
