"""Weights that go into a network: what fits is loaded, what does not is adapted or left new, and it is said."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from resnets.preprocessing import Preprocessing

FOLDED_VARIANCE = 1 - 1e-5  # with BatchNorm's eps of 1e-5 it divides by exactly one
DAMAGED = (  # what the readers raise for files that were cut or altered, found by trying
    *(safetensors.SafetensorError, OSError, EOFError, RuntimeError, ValueError, struct.error),
    *(AssertionError, AttributeError, LookupError, MemoryError, OverflowError, TypeError),
)


class Offline(Exception):
    """Weights could not be downloaded."""


@dataclass(frozen=True)
class Weights:
    """A state dict with what it was made for.

    Args:
        state: Our keys.
        source: Where it is from, in words.
        preprocessing: What the network expects; None where the file does not say.
    """

    state: dict[str, Tensor]
    source: str
    preprocessing: Preprocessing | None = None


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
        parts += ["BatchNorm statistics are folded into its weights (mean 0, variance 1 - 1e-5)"] if self.folded else []
        return "; ".join(parts)


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict of a `.safetensors`, `.npz` or `.pt`/`.pth` file; the last is read without executing any of it.

    Raises:
        ValueError: No such file, or not a state dict.
    """
    if not path.is_file():
        raise ValueError(f"no such weights file: {path}")
    try:
        if path.suffix == ".safetensors":
            state: Any = safetensors.torch.load_file(path)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                state = {name: torch.from_numpy(file[name]) for name in file.files}
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise ValueError(
            f"{path}: not a state dict, or one with more in it than tensors; running code from a file is refused. "
            "Save net.state_dict() and nothing else"
        ) from None
    except DAMAGED as error:
        raise ValueError(
            f"{path}: truncated, or not a state dict ({(str(error).splitlines() or [type(error).__name__])[0]})"
        ) from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    named = isinstance(state, Mapping) and all(isinstance(key, str) and isinstance(state[key], Tensor) for key in state)
    if not named or not state:
        raise ValueError(f"{path}: not a state dict (names to tensors)")
    return {key: value for key, value in state.items() if path.suffix == ".npz" or "/" not in key}


def head_name(net: Any) -> str:
    """Where the classifier stands: `fc`, `classifier`, `head`."""
    head = net.get_classifier() if hasattr(net, "get_classifier") else None
    return next((name for name, module in net.named_modules() if module is head), "fc")


def load_weights(net: nn.Module, state: Mapping[str, Tensor]) -> Loaded:
    """Loads a state dict; the head is left new where the classes differ, the first convolution adapted to the channels.

    RGB filters are summed for one channel: a grey picture then answers as its RGB copy did.

    Args:
        net: Changed in place.
        state: Our keys; `schemes.convert` makes them of others.

    Raises:
        ValueError: Weights of another network; the message names keys that differ.
    """
    own = net.state_dict()
    result = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked") or key in own}
    adapted, left, head = [], [], head_name(net)
    for key in [f"{head}.weight", f"{head}.bias"]:
        if key in own and (key not in result or result[key].shape != own[key].shape):
            result[key] = own[key]
            left.append(key)
    first = next((name for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Conv3d)), "") + ".weight"
    if first in result and first in own and result[first].shape[1] == 3 and own[first].shape[1] == 1:
        result[first] = result[first].float().sum(1, keepdim=True)
        adapted.append(f"{first} (3 channels to 1)")
    missing = [key for key in own if key not in result and not key.endswith("num_batches_tracked")]
    extra = [key for key in result if key not in own]
    shapes = [
        f"{key} {tuple(result[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in result and result[key].shape != own[key].shape
    ]
    if missing or extra or shapes:
        raise ValueError(
            "weights of another network: "
            + "; ".join(
                f"{words} {', '.join(keys[:4])}{f' and {len(keys) - 4} more' if len(keys) > 4 else ''}"
                for words, keys in (("missing", missing), ("unknown", extra), ("of another shape", shapes))
                if keys
            )
        )
    net.load_state_dict({**own, **result})
    changed = {*left, first} if adapted else {*left}
    return Loaded(tuple(key for key in result if key not in changed), tuple(adapted), tuple(left), is_folded(state))


def is_folded(state: Mapping[str, Tensor]) -> bool:
    """Whether BatchNorm's statistics are folded into its weights: every mean 0, every variance 1 - 1e-5.

    Such a network must keep BatchNorm in eval mode: the statistics of a batch have nothing to do with the stored ones.
    """
    means = [value for key, value in state.items() if key.endswith("running_mean")]
    variances = [value for key, value in state.items() if key.endswith("running_var")]
    return (
        bool(means)
        and not any(mean.any() for mean in means)
        and all(bool((v - FOLDED_VARIANCE).abs().max() < 1e-7) for v in variances)
    )
