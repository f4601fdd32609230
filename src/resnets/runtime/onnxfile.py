"""`NAME.onnx`: a network with its preprocessing, classes, golden images and a seal, in one file.
Written and read here.

The file is ordinary ONNX. One metadata property, `resnets`, holds everything that is not the graph
as one JSON string. Another, `resnets_sha256`, is the very end of the file and seals all bytes
before it, so that damage is noticed before anything runs. Both are read by hand from the protobuf
bytes: that needs no library and does not depend on the engine.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnets.deep import FULL
from resnets.files import write_file
from resnets.preprocessing import Preprocessing, open_image, upgrade

FORMAT = 2
PROPERTY = "resnets"
REQUIRED = ("format", "model", "classes", "preprocessing", "golden", "limit")
_DIGEST = 64  # hexadecimal digits of a sha256
_METADATA_PROPS = 14  # ModelProto.metadata_props
_SEAL = b"\x0a\x0eresnets_sha256\x12" + bytes(
    [_DIGEST]
)  # StringStringEntryProto: key = 1, value = 2
_SEAL = bytes([_METADATA_PROPS << 3 | 2, len(_SEAL) + _DIGEST]) + _SEAL


@dataclass(frozen=True)
class OnnxFile:
    """A file that was found whole.

    Args:
        path: Where it lies; an engine reads it from there, so that its weights are in memory once.
        metadata: Its `resnets` property: format, model, classes, preprocessing, golden, limit and
            what export adds.
    """

    path: Path
    metadata: dict[str, Any]

    @property
    def sha256(self) -> str:
        """What the seal says, which tells this file from every other."""
        with self.path.open("rb") as file:
            file.seek(-_DIGEST, os.SEEK_END)
            return file.read().decode()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the outputs."""
        return tuple(self.metadata["classes"])

    @property
    def preprocessing(self) -> Preprocessing:
        """How the graph turns a picture into network input."""
        return Preprocessing.from_dict(self.metadata["preprocessing"])

    @property
    def golden(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Pictures (height, width, channels) with the probabilities (classes,) float32 the trained
        network gave them."""
        value = self.preprocessing
        images = (  # their values are stored as the graph takes them
            open_image(
                base64.b64decode(entry["png"]), value.channels, value.value_range, None, FULL
            )[0]
            for entry in self.metadata["golden"]
        )
        return [
            (whole(image), np.array(entry["probabilities"], np.float32))
            for image, entry in zip(images, self.metadata["golden"], strict=True)
        ]


def whole(image: Image.Image) -> np.ndarray:
    """A picture of `open_image` as the graph takes it: (height, width, channels) in its own type
    and size."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def seal(model_bytes: bytes) -> bytes:
    """The model with the sha256 of its bytes as one more metadata property at the end; protobuf
    messages may be concatenated."""
    return model_bytes + _SEAL + hashlib.sha256(model_bytes).hexdigest().encode()


def write_onnx(path: str | Path, model_bytes: bytes) -> None:
    """Seals a serialized ModelProto and writes it; what `read_onnx` would refuse is refused here.

    Raises:
        ValueError: Its metadata are not those of a file of ours.
        OSError: It could not be written; `path` is as it was, and nothing is left beside it.
    """
    data = seal(model_bytes)
    _parse(Path(path), memoryview(data))
    write_file(Path(path), data)


def read_onnx(path: str | Path) -> OnnxFile:
    """Reads a file of `resnets export` and refuses what is not one, is damaged, or is newer than
    this package.

    Raises:
        ValueError: With the reason and the cure.
    """
    path = Path(path)
    if path.suffix == ".safetensors" or path.is_dir():
        kind = "a run folder" if path.is_dir() else "a model file"
        raise ValueError(
            f"{path}: {kind}; its weights need the training install: pip install 'resnets[train]'. "
            f"Or make a file that runs everywhere, where it is installed: resnets export {path}"
        )
    if not path.exists():
        raise ValueError(
            f"{path}: no such file; a file to predict with is made by: resnets export RUN"
        )
    with path.open("rb") as file:
        empty = not os.fstat(file.fileno()).st_size  # which cannot be mapped
        return _parse(
            path, memoryview(b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        )


def _parse(path: Path, data: memoryview) -> OnnxFile:
    body = data[: -len(_SEAL) - _DIGEST]
    if bytes(data[len(body) : -_DIGEST]) != _SEAL:
        raise ValueError(
            f"{path}: this is not a file of `resnets export`, or only the beginning of one (the"
            " seal at its end is missing); copy it again, or make it with: resnets export RUN"
        )
    if data[-_DIGEST:] != hashlib.sha256(body).hexdigest().encode():
        raise ValueError(
            f"{path}: altered or damaged since it was written (its sha256 is another one); copy or"
            " export it again"
        )
    try:
        file = OnnxFile(path, upgrade(json.loads(_properties(body)[PROPERTY])))
        version = file.metadata["format"]
        if version <= FORMAT:
            missing = [key for key in REQUIRED if key not in file.metadata]
            if (
                missing
                or len(set(file.classes)) != len(file.classes)
                or not isinstance(file.preprocessing, Preprocessing)
            ):
                raise ValueError(f"missing: {', '.join(missing) or 'classes with different names'}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: its metadata are not those of `resnets export` ({error}); export it again"
        ) from None
    if version > FORMAT:
        raise ValueError(
            f"{path}: made by a newer resnets (format {version}); this one reads up to {FORMAT}:"
            " upgrade resnets"
        )
    return file


def _properties(model: memoryview) -> dict[str, str]:
    """The metadata properties of a serialized ModelProto."""
    found = {}
    for number, content in _fields(model):
        if number == _METADATA_PROPS:
            entry = {number: bytes(text).decode() for number, text in _fields(content)}
            found[entry.get(1, "")] = entry.get(2, "")
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, content) of the top-level fields of a protobuf message that hold bytes; numbers are
    passed over.

    Raises:
        ValueError: A length or a type points outside the message.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 2:
            length, at = _varint(message, at)
        elif kind == 0:
            length = _varint(message, at)[1] - at
        else:
            length = {1: 8, 5: 4}.get(
                kind, len(message) + 1
            )  # 64 and 32 bits; other types are not in use
        if length > len(message) - at:
            raise ValueError("not an ONNX model")
        if kind == 2:
            yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number in groups of 7 bits, lowest first, and the place after it."""
    value = 0
    for shift, byte in zip(range(0, 64, 7), message[at : at + 10], strict=False):
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError("not an ONNX model")
