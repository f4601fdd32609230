"""Checkpoints as people have them: the state dict in a file, whatever it is wrapped in. No pickle
is ever executed."""

from __future__ import annotations

import os
import re
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

Say = Callable[[str], None]
DAMAGED = (  # what the readers raise for files that were cut or altered, found by trying
    *(safetensors.SafetensorError, OSError, EOFError, RuntimeError, ValueError, struct.error),
    *(AssertionError, AttributeError, LookupError, MemoryError, OverflowError, TypeError),
    *(zipfile.BadZipFile, zlib.error),
)
# Under which names training scripts keep the weights of the network, the likeliest first
WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net_state_dict", "net"),
    *("network", "params", "weights", "module", "student", "backbone", "encoder"),
)
AVERAGED = {"ema", "averaged", "teacher"}  # a part of a name that tells averaged weights
# Classes that checkpoints hold beside tensors. None of them is imported or called: a `Shell`, or a
# plain dictionary, stands in the place of each.
SHELLS = (
    *("argparse.Namespace", "types.SimpleNamespace", "datetime.datetime"),
    *(
        f"pathlib{inner}.{system}Path"
        for inner in ("", "._local")
        for system in ("Posix", "Windows")
    ),
    *("numpy.dtype", "numpy.ndarray"),
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
    *(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Float64", "Float32", "Int64", "Bool")),
)
DICTIONARIES = (
    *("easydict.EasyDict", "yacs.config.CfgNode"),
    "pytorch_lightning.utilities.parsing.AttributeDict",
    *(f"{name}.utilities.data.AttributeDict" for name in ("lightning.fabric", "lightning_fabric")),
)
DEEPEST = 4  # dictionaries within dictionaries
MOST_UNPACKED, MOST_SMALL = 50, 100_000_000  # times the file; bytes below which nothing is refused


class Shell:
    """Stands for an object of another library: takes its arguments and state, and does nothing with
    them."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Shell:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def as_path(value: Any, what: str) -> Path:
    """A path from what was given for one.

    Raises:
        ValueError: Something else than text or a path.
    """
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise ValueError(f"{what}: a path was expected, got {type(value).__name__} {value!r:.60}")
    return Path(value)


def read_state(path: str | Path, say: Say = lambda text: None) -> dict[str, Tensor]:
    """The state dict of a checkpoint; what kind of file it is, its content says, not its name.

    Args:
        path: safetensors, NumPy's npz, or what `torch.save` wrote.
        say: Told which part is taken, where the file holds more than a state dict.

    Raises:
        ValueError: No such file, or no state dict in it.
    """
    path = as_path(path, "weights")
    if path.is_dir():
        raise ValueError(f"{path}: a folder; name the file in it that holds the weights")
    if not path.is_file():
        raise ValueError(f"no such weights file: {path}")
    try:
        kind, content = _content(path)
    except UnpicklingError as error:
        raise ValueError(f"{path}: {_not_only_tensors(str(error))}") from None
    except DAMAGED as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: truncated, or not a state dict ({reason})") from None
    found = _find(content, path, (set(), 0))
    if found is None:
        keys = [str(key) for key in content] if isinstance(content, Mapping) else []
        inside = f"; it holds {', '.join(keys[:8])}" if keys else ""
        raise ValueError(f"{path}: not a state dict (names to tensors){inside}")
    check_tensors(path, found.state)
    if found.trail:
        beside = f", not {' or '.join(found.beside)}" if found.beside else ""
        averaged = ", the averaged weights (EMA)" if any(map(is_averaged, found.trail)) else ""
        say(f"{path.name}: the weights under {'.'.join(found.trail)} are taken{averaged}{beside}")
    return {key: value for key, value in found.state.items() if kind == "npz" or "/" not in key}


def check_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuses tensors that no network can be given.

    Raises:
        ValueError: Without content, sparse, quantised, expanded or not a number; the first by name.
    """
    for key, tensor in state.items():
        if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
            kind = "empty (meta)" if tensor.is_meta else "sparse or quantised"
            raise ValueError(
                f"{path}: {key} is {kind}; save the network's weights as plain tensors"
            )
        size = tensor.numel() * tensor.element_size()
        if size > MOST_SMALL and size > MOST_UNPACKED * tensor.untyped_storage().nbytes():
            raise ValueError(f"{path}: {key} announces {size:,} bytes that are not in the file")
        if tensor.is_floating_point() and bool(tensor.isnan().any()):
            raise ValueError(
                f"{path}: {key} holds NaN: training has diverged before this was saved; take an"
                " earlier checkpoint"
            )


def _content(path: Path) -> tuple[str, Any]:
    kind = _kind(path)
    if kind == "safetensors":
        return kind, safetensors.torch.load_file(path)
    if kind == "npz":
        with np.load(path, allow_pickle=False) as file:
            return kind, {name: torch.from_numpy(file[name]) for name in file.files}
    stands_for: list[Any] = [(Shell, name) for name in SHELLS]
    stands_for += [(OrderedDict, name) for name in DICTIONARIES]
    # opened here, since torch.load takes the ending of a name for the kind of the file
    with torch.serialization.safe_globals(stands_for), path.open("rb") as opened:
        return kind, torch.load(opened, map_location="cpu", weights_only=True)


def _kind(path: Path) -> str:
    """What a file is, by its first bytes; by its name only where they do not say it.

    Raises:
        ValueError: A kind that holds no state dict.
    """
    if path.suffix == ".onnx":
        raise ValueError("ONNX is there to run, not to train on; name the model it was made from")
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{" or (path.suffix == ".safetensors" and not head.startswith(b"PK")):
        return "safetensors"
    if head.startswith((b"\x89HDF", b"\x1f\x8b")):
        raise ValueError("HDF5 or compressed: unpack it, or convert it to safetensors")
    if not head.startswith(b"PK"):
        return "npz" if path.suffix == ".npz" else "torch"
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    unpacked, packed = sum(one.file_size for one in entries), path.stat().st_size
    if unpacked > MOST_SMALL and unpacked > MOST_UNPACKED * packed:
        raise ValueError(f"{packed:,} bytes that unpack to {unpacked:,}: not weights")
    names = [one.filename for one in entries]
    if any(name.endswith("constants.pkl") for name in names):
        raise ValueError("TorchScript, a program with its weights. Save net.state_dict() instead")
    return "npz" if any(name.endswith(".npy") for name in names) else "torch"


def _not_only_tensors(message: str) -> str:
    named = re.search(r"GLOBAL (\S+)", message)
    what = f"it holds {named[1]}" if named else "it holds more than tensors"
    return (
        f"not a state dict: {what}, as a whole network or optimizer that was pickled does; running"
        " code from a file is refused. Save net.state_dict() and nothing else:"
        " torch.save(net.state_dict(), 'weights.pth')"
    )


@dataclass(frozen=True)
class _Found:
    """A state dict, under which keys it lay, and what else could have been taken."""

    state: dict[str, Tensor]
    trail: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def _find(content: Any, path: Path, seen: tuple[set[int], int]) -> _Found | None:
    """The state dict in nested dictionaries, each looked into once: they may hold one another.

    Args:
        content: What may be one.
        path: The file, for messages.
        seen: Which were looked into, and how deep this one lies.

    Raises:
        ValueError: There are several, and nothing tells which is meant.
    """
    known, depth = seen
    if not isinstance(content, Mapping) or depth > DEEPEST or id(content) in known:
        return None
    known.add(id(content))
    below = (known, depth + 1)
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    if any("." in key for key in tensors) or (tensors and len(tensors) == len(content)):
        return _Found(tensors)
    inner = {
        key: found
        for key, value in named.items()
        if (is_averaged(key) or key.lower() in WRAPPERS) and (found := _find(value, path, below))
    }
    if not inner:  # under a name of their own: only what looks like the weights of a network
        inner = {
            key: found
            for key, value in named.items()
            if "optim" not in key.lower()
            and (found := _find(value, path, below))
            and any("." in name for name in found.state)
        }
        if len(inner) > 1:
            raise ValueError(
                f"{path}: holds several state dicts ({', '.join(inner)}); save the one that is"
                " meant by itself: torch.save(net.state_dict(), 'weights.pth')"
            )
    if not inner:
        return None
    most = max(len(found.state) for found in inner.values())
    best = min(inner, key=lambda key: (not _whole_average(key, inner[key], most), _rank(key)))
    found, beside = inner[best], tuple(key for key in inner if key != best)
    return _Found(found.state, (best, *found.trail), (*beside, *found.beside))


def is_averaged(key: str) -> bool:
    """Whether a name says that the weights under it are averaged ones."""
    return not AVERAGED.isdisjoint(re.split(r"[^a-z]+", key.lower()))


def _whole_average(key: str, found: _Found, most: int) -> bool:
    """Averages of the parameters alone lack the statistics of BatchNorm: such are not taken."""
    return is_averaged(key) and len(found.state) >= most


def _rank(key: str) -> int:
    name = key.lower()
    return WRAPPERS.index(name) if name in WRAPPERS else len(WRAPPERS)
