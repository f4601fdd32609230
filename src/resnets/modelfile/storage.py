"""Tensors and metadata in one file, and the digest of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from resnets.checkpoints import as_path
from resnets.files import write_file
from resnets.formats import FORMAT, Newer, check_format, upgrade

# one key, since safetensors writes several in no fixed order: equal content gives equal bytes
KEY = "resnets"


def write_model(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Writes a model file in one piece.

    Args:
        path: Ends in `.safetensors`.
        tensors: The state dict; names with a slash (`average/fc.bias`) are none of the network.
        metadata: JSON-able; `format` and `sha256` are added.

    Raises:
        OSError: The disk is full, or there is no permission; the old file stays.
    """
    # tied ones are told apart
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # the digest is of what will be read
    content = json.loads(json.dumps({**metadata, "format": FORMAT}))
    content["sha256"] = digest_of(plain, content)
    # ASCII: names of files need not be UTF-8
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    write_file(path, safetensors.torch.save(plain, {KEY: text}))


def read_model(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors and the metadata of a model file.

    Raises:
        ValueError: Not a model file of this package, made by a newer one, truncated or altered.
    """
    path = as_path(path, "a model file")
    try:
        with safetensors.safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise ValueError(f"no such model file: {path}") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path}: truncated, or not a safetensors file ({error})") from None
    if text is None:
        raise ValueError(
            f"{path}: safetensors without resnets' metadata; for a bare state dict name the"
            " network: --model resnet18"
        )
    metadata = _metadata(text)
    number = metadata.get("format")
    if is_count(number):
        try:
            check_format(number)
        except Newer as error:
            raise ValueError(f"{path}: made by a newer resnets {error}: upgrade") from None
    if not _is_sealed(tensors, metadata) or not is_count(number, 0):
        raise ValueError(
            f"{path}: altered or damaged, its digest does not match; make it again or fetch it"
            " again"
        )
    return tensors, upgrade(metadata)


def _metadata(text: str) -> dict[str, Any]:
    """The metadata in a text; nothing where it is no JSON object."""
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, too deep
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _is_sealed(tensors: Mapping[str, Tensor], metadata: dict[str, Any]) -> bool:
    """Whether the digest in the metadata, which is taken out of them, is that of all the rest."""
    try:
        return bool(metadata.pop("sha256", None) == digest_of(tensors, metadata))
    except RecursionError:  # they could just be read, but not be written again
        return False


def is_count(value: Any, least: int = 1) -> TypeGuard[int]:
    """Whether a value from a file is a whole number from `least` on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_model_file(path: Path) -> bool:
    """Whether a path leads to a model file of ours, or to a run folder with one; not so a bare
    state dict."""
    if path.is_dir():
        return True
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safetensors.safe_open(path, "pt") as file:
            return KEY in (file.metadata() or {})
    except (safetensors.SafetensorError, OSError):
        return False


def best_weights(path: str | Path) -> Path:
    """The model file that a path means: itself, or the best one of a run folder.

    Raises:
        ValueError: A folder without one.
    """
    path = as_path(path, "a model file")
    if not path.is_dir():
        return path
    best = path / "weights" / "best.safetensors"
    if not best.is_file():
        raise ValueError(
            f"{path} has no weights/best.safetensors: not the folder of a run, or stopped before"
            " its first validation"
        )
    return best


def digest_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """The sha256 of metadata and tensors."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
