"""Weights that go into a network: other names become ours, what fits is loaded, what does not is
adapted or left new and told."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from resnets.models.rows import ROWS
from resnets.models.schemes import our_names
from resnets.models.setting import Setting
from resnets.models.zoo import Network

Say = Callable[[str], None]
DEEPEST = 6  # names that may stand before those of a network: module._orig_mod.model.
FEWEST = 16  # one key in so many must have a prefix for it to hold the network
AVERAGED = ("ema", "averaged", "teacher")  # parts of a prefix that tell averaged weights
# May change neither names nor shapes of weights
UNSEEN = (
    "stride_in", "antialias", "stem_pool", "conv", "output_stride", "order", "shortcut", "spatial",
    "heads",
)  # fmt: skip
IDLE = ("drop_path", "zero_init")  # nor the outputs of a trained network
FOLDED_VARIANCE = 1 - 1e-5  # with BatchNorm's eps of 1e-5 it divides by exactly one


def convert(
    state: Mapping[str, Any], model: str, say: Say = lambda text: None
) -> dict[str, Tensor]:
    """A state dict in the scheme of another library, with our keys; one that has them already stays
    as it is.

    Read are timm's resnetv2, sknet and res2net, BiT's npz files, the old keys of DenseNet,
    torchvision's video networks and Vision Transformers, and the backbones inside its detection and
    segmentation models, or anything else that stands before the names (`unwrap`). A head of 1x1
    convolution becomes linear.

    Args:
        state: Names to tensors (or arrays, from an npz file).
        model: The network as text, `"resnetv2_50x1_bit"`.
        say: Told which of several networks in the file is taken.

    Raises:
        ValueError: The network is unknown.
    """
    setting = Network.parse(model).setting
    state = unwrap(state, _shapes(setting), lambda keys: our_names(keys, setting), say)
    result: dict[str, Tensor] = {}
    for (key, value), name in zip(state.items(), our_names(state, setting), strict=True):
        tensor = torch.as_tensor(value)
        if key.endswith("/kernel") and tensor.ndim == 4:  # TensorFlow's: (height, width, in, out)
            tensor = tensor.permute(3, 2, 0, 1).contiguous()
        result[name] = tensor.flatten(1) if name == "fc.weight" else tensor
    return result


def unwrap(
    state: Mapping[str, Any],
    known: Collection[str],
    rename: Callable[[Collection[str]], Collection[str]] = lambda keys: keys,
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """What a state dict holds of a network that is part of another, under that network's own names.

    Other names stand before its own: those of torch.compile, DistributedDataParallel, Lightning, a
    detector, a model with a student and a teacher. Taken is the part that has most of the names
    that are known; of equal ones the averaged weights, then the first with the fewest names before
    it. All else belongs to the rest of that other network.

    Args:
        state: Names to tensors.
        known: Names that the network has.
        rename: Makes them of others.
        say: Told where another part would fit as well.
    """
    parts: dict[str, list[str]] = {"": list(state)}
    for key in state:
        pieces = key.split(".")[:-1]
        for count in range(1, min(len(pieces), DEEPEST) + 1):
            prefix = ".".join(pieces[:count]) + "."
            parts.setdefault(prefix, []).append(key.removeprefix(prefix))
    found = {
        prefix: sum(name in known for name in rename(keys))
        for prefix, keys in parts.items()
        if len(keys) * FEWEST >= len(state)
    }
    most = max(found.values(), default=0)
    alike = [prefix for prefix, count in found.items() if count == most]
    averaged = [prefix for prefix in alike if not {*AVERAGED}.isdisjoint(re.split("[._]", prefix))]
    best = min(averaged or alike, key=lambda prefix: prefix.count("."), default="")
    others = [
        prefix for prefix in alike if not prefix.startswith(best) and not best.startswith(prefix)
    ]
    if most and (others := [prefix for prefix in others if prefix]):
        say(f"the weights under {best} are taken; these fit as well: {', '.join(others)}")
    return {key.removeprefix(best): value for key, value in state.items() if key.startswith(best)}


def unseen_differences(one: Setting, two: Setting) -> list[str]:
    """What two networks differ in although their weights have the same names and shapes: a file
    alone does not tell them apart."""
    if type(one) is not type(two):
        return []
    different = [
        field.name for field in fields(one) if getattr(one, field.name) != getattr(two, field.name)
    ]
    unseen = [name for name in different if name in UNSEEN]
    alike = unseen and {*different} <= {*UNSEEN, *IDLE} and _shapes(one) == _shapes(two)
    return unseen if alike else []


@cache
def _shapes(setting: Setting) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {
            key: value.shape for key, value in Network("", setting, 1).build().state_dict().items()
        }


def look_alikes(network: Network) -> list[str]:
    """Rows whose weights fit into a network that computes something else: resnet50, resnetaa50 and
    resnetblur50 are such."""
    return [name for name, row in ROWS.items() if unseen_differences(network.setting, row.setting)]


@dataclass(frozen=True)
class Loaded:
    """What became of each entry of a state dict, by key."""

    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    left: tuple[str, ...]
    folded: bool

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} entries loaded"]
        parts += [f"adapted: {', '.join(self.adapted)}"] if self.adapted else []
        parts += [f"new: {', '.join(self.left)}"] if self.left else []
        if self.folded:
            parts.append(
                "BatchNorm statistics are folded into its weights (mean 0, variance 1 - 1e-5)"
            )
        return "; ".join(parts)


def load_weights(net: nn.Module, state: Mapping[str, Tensor]) -> Loaded:
    """Loads a state dict; the head is left new where the classes differ, the first convolution
    adapted to the channels.

    RGB filters are summed for one channel: a grey image then gives the logits of its RGB copy.

    Args:
        net: Changed in place.
        state: Our keys; `convert` makes them of others. What stands before them is taken off.

    Raises:
        ValueError: Weights of another network; the message names keys that differ.
    """
    own = net.state_dict()
    state = unwrap(state, own)
    result = {
        key: value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked") or key in own
    }
    adapted, left, head = [], [], head_name(net)
    for key in [f"{head}.weight", f"{head}.bias"]:
        if key not in own:  # a network without classes needs no classifier
            result.pop(key, None)
        elif key not in result or result[key].shape != own[key].shape:
            result[key] = own[key]
            left.append(key)
    first = first_convolution(net)
    channels = [one[first].shape[1] if first in one else 0 for one in (result, own)]
    if channels == [3, 1]:
        result[first] = result[first].float().sum(1, keepdim=True)
        adapted.append(f"{first} (3 channels to 1)")
    if inflated := [key for key in result if key in own and _inflates(result[key], own[key])]:
        result |= {key: _inflated(result[key], own[key]) for key in inflated}
        adapted.append(
            f"{len(inflated)} convolutions of images, which become the middle one of a clip"
        )
    if different := differences(own, result):
        raise ValueError(f"weights of another network: {different}")
    net.load_state_dict({**own, **result})
    changed = {*left, *inflated, *([first] if channels == [3, 1] else [])}
    return Loaded(
        tuple(key for key in result if key not in changed),
        tuple(adapted),
        tuple(left),
        is_folded(state),
    )


def _inflates(weight: Tensor, own: Tensor) -> bool:
    """Whether a convolution of images is given for one over time."""
    return weight.ndim == 4 and own.ndim == 5 and weight.shape[:2] == own.shape[:2]


def _inflated(weight: Tensor, own: Tensor) -> Tensor:
    """A convolution over time that sees the middle image alone: `models.inflation`."""
    new = torch.zeros(*own.shape[:3], *weight.shape[2:], dtype=weight.dtype)
    new[:, :, own.shape[2] // 2] = weight
    return new


def differences(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """The names and shapes in which a state dict differs from that of a network; empty where
    it can be loaded."""
    different = {
        "missing": [
            key for key in own if key not in given and not key.endswith("num_batches_tracked")
        ],
        "unknown": [key for key in given if key not in own],
        "of another shape": [
            f"{key} {tuple(given[key].shape)} for {tuple(own[key].shape)}"
            for key in own
            if key in given and given[key].shape != own[key].shape
        ],
    }
    return "; ".join(
        f"{problem} {', '.join(keys[:4])}{f' and {len(keys) - 4} more' * (len(keys) > 4)}"
        for problem, keys in different.items()
        if keys
    )


def first_convolution(net: nn.Module) -> str:
    """The name of the weight that meets the image first."""
    convolutions = (
        name for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Conv3d)
    )
    return f"{next(convolutions, '')}.weight"


def head_name(net: Any) -> str:
    """Where the classifier stands: `fc`, `classifier`, `head`."""
    head = net.get_classifier() if hasattr(net, "get_classifier") else None
    return next((name for name, module in net.named_modules() if module is head), "fc")


def is_folded(state: Mapping[str, Tensor]) -> bool:
    """Whether BatchNorm's statistics are folded into its weights: every mean 0, every variance 1 -
    1e-5.

    Such a network must keep BatchNorm in eval mode: the statistics of a batch have nothing to do
    with the stored ones.
    """
    means = [value for key, value in state.items() if key.endswith("running_mean")]
    variances = [value for key, value in state.items() if key.endswith("running_var")]
    folded = all(bool((variance - FOLDED_VARIANCE).abs().max() < 1e-7) for variance in variances)
    return bool(means) and not any(mean.any() for mean in means) and folded
