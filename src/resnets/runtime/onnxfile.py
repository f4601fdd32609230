"""`NAME.onnx`: a network with its preprocessing, classes, golden images and a seal, in one file.
Written and read here.

The file is ordinary ONNX. One metadata property, `resnets`, holds everything that is not the graph
as one JSON string. Another, `resnets_sha256`, is the very end of the file and seals all bytes
before it, so that damage is noticed before anything runs. A seal finds damage, not forgery: it has
no key, and whoever alters a file on purpose can seal it again. So what the metadata say is looked
at before it is believed.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnets.files import write_file
from resnets.formats import Newer, read_task, upgrade
from resnets.kinds import Kind
from resnets.preprocessing import Preprocessing
from resnets.runtime.golden import LONGEST_SIDE, Golden, check_golden, read_golden
from resnets.runtime.protobuf import METADATA_PROPS, has_external_data, properties
from resnets.sampling import Sampling, read_sampling

PROPERTY = "resnets"
REQUIRED = ("format", "model", "classes", "preprocessing", "golden", "limits")
# characters; with three golden images and 22,000 classes it is 2 million
MOST_METADATA = 32_000_000
MOST_GOLDEN = 64
# In which files are computed, with the row of `Kind.limits` that no file may go beyond
PRECISIONS = {"float32": "any", "int8": "int8", "bfloat16": "bfloat16"}
_DIGEST = 64  # hexadecimal digits of a sha256
_SEAL = b"\x0a\x0eresnets_sha256\x12" + bytes(
    [_DIGEST]
)  # StringStringEntryProto: key = 1, value = 2
_SEAL = bytes([METADATA_PROPS << 3 | 2, len(_SEAL) + _DIGEST]) + _SEAL


@dataclass(frozen=True)
class OnnxFile:
    """A file that was found whole.

    Args:
        path: Where it lies; an engine reads it from there, so that its weights are in memory once.
        metadata: Its `resnets` property: format, model, classes, preprocessing, task, golden,
            limits and what export adds.
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
        """How the graph turns an image into network input."""
        return Preprocessing.from_dict(self.metadata["preprocessing"])

    @property
    def kind(self) -> Kind:
        """What it predicts."""
        return read_task(self.metadata["task"], self.classes)[0]

    @property
    def options(self) -> Mapping[str, Any]:
        """Of its task, in the types that `kind.unbatch` takes."""
        return read_task(self.metadata["task"], self.classes)[1]

    @property
    def sampling(self) -> Sampling | None:
        """Which images of a video the graph takes; None where it takes images."""
        return read_sampling(self.metadata.get("sampling"), self.kind.takes)

    @property
    def precision(self) -> str:
        """In which it is computed: a key of `PRECISIONS`. In bfloat16 the engine is told to, and
        the graph is the same as in float32."""
        return str(self.metadata.get("precision", "float32"))

    @property
    def framed_shape(self) -> tuple[int, ...]:
        """(1, height, width, channels) of `Preprocessing.framed`, or of a clip of such images."""
        frames = (self.sampling.frames,) if self.sampling else ()
        return (1, *frames, *self.preprocessing.framed_shape)

    @property
    def limits(self) -> dict[str, float]:
        """What each value of a `Difference` may be for the file to be verified: what it says
        itself, but never more than its kind allows."""
        own = self.metadata["limits"]
        most = self.kind.limits[PRECISIONS[self.precision]]
        return {name: min(float(own.get(name, limit)), limit) for name, limit in most.items()}

    @property
    def golden(self) -> list[Golden]:
        """Images with the outputs that the trained network gave for them."""
        return [
            read_golden(self.kind, entry, self.preprocessing) for entry in self.metadata["golden"]
        ]


def seal(model_bytes: bytes) -> bytes:
    """The model with the sha256 of its bytes as one more metadata property at the end; protobuf
    messages may be concatenated."""
    return model_bytes + _SEAL + hashlib.sha256(model_bytes).hexdigest().encode()


def write_onnx(path: str | Path, model_bytes: bytes) -> None:
    """Seals a serialized ModelProto and writes it; what `read_onnx` would refuse is refused here.

    Raises:
        ValueError: Its metadata are not those of a file of ours, or weights lie in another file.
        OSError: It could not be written; `path` is as it was, and nothing is left beside it.
    """
    data = seal(model_bytes)
    _parse(Path(path), memoryview(data))
    write_file(Path(path), data)


def read_onnx(path: str | Path) -> OnnxFile:
    """Reads a file of `resnets export` and refuses what is not one, is damaged, keeps weights in
    another file, or is newer than this package.

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
        external = has_external_data(body)
        text = "" if external else properties(body)[PROPERTY]
        metadata = {} if external else _metadata(text)
    except Newer as error:
        raise ValueError(f"{path}: made by a newer resnets {error}: upgrade resnets") from None
    except _NOT_OURS as error:
        raise ValueError(
            f"{path}: its metadata are not those of `resnets export` ({_why(error)}); export it"
            " again"
        ) from None
    if external:
        raise ValueError(
            f"{path}: some of its weights lie in another file, which the seal does not cover; make"
            " it again with: resnets export RUN, which writes one file"
        )
    return OnnxFile(path, metadata)


# What a look at metadata of any kind may raise
_NOT_OURS = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return f"missing: {error.args[0]}" if isinstance(error, KeyError) else str(error)


def _metadata(text: str) -> dict[str, Any]:
    """The metadata of a file as the present format has them, of which everything has been looked
    at that is believed later.

    Raises:
        Newer: The file is of a later format or task, and nothing else was looked at.
        ValueError, or another of `_NOT_OURS`: They are not what `resnets export` writes.
    """
    if len(text) > MOST_METADATA:
        raise ValueError(f"{len(text):,} characters; allowed: {MOST_METADATA:,}")
    values = json.loads(text)
    _need(isinstance(values, dict), "not a JSON object")
    _need(type(values["format"]) is int and values["format"] > 0, "format: a whole number")
    values = upgrade(values)
    if missing := [key for key in REQUIRED if key not in values]:
        raise ValueError(f"missing: {', '.join(missing)}")
    _need(isinstance(values["model"], str), "model: a text")
    classes = values["classes"]
    _need(
        _is_list(classes, str) and len(set(classes)) == len(classes) > 0,
        "classes: a list of different names",
    )
    kind, _ = read_task(values["task"], classes)
    _need(
        isinstance(values["limits"], dict) and all(map(_is_positive, values["limits"].values())),
        "limits: finite numbers above 0, by name",
    )
    precision = values.get("precision", "float32")
    known = [name for name, row in PRECISIONS.items() if row in kind.limits]
    _need(precision in known, f"precision: {' or '.join(known)}")
    _need(precision == "float32" or _is_account(values["judgement"]), "judgement: an account")
    _need(isinstance(values["preprocessing"], dict), "preprocessing: a JSON object")
    preprocessing = Preprocessing.from_dict(values["preprocessing"])
    _need(preprocessing.fit in kind.fits, f"preprocessing: fit {' or '.join(kind.fits)}")
    sides = (*preprocessing.size, *preprocessing.resize)
    _need(max(sides) <= LONGEST_SIDE, f"preprocessing: sides up to {LONGEST_SIDE} pixels")
    sampling = read_sampling(values.get("sampling"), kind.takes)
    _need(_is_list(values["golden"], dict), "golden: a list of JSON objects")
    _need(0 < len(values["golden"]) <= MOST_GOLDEN, f"golden: 1 to {MOST_GOLDEN} images")
    for entry in values["golden"]:
        check_golden(kind, entry, classes, preprocessing, sampling.frames if sampling else 1)
    return values


def _need(condition: bool, wanted: str) -> None:
    if not condition:
        raise ValueError(f"wanted {wanted}")


def _is_list(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _is_positive(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > 0  # type: ignore[arg-type, operator]


def _is_account(value: object) -> bool:
    """Whether it is what `resnets export --precision` says of a file: texts by name, and a
    table."""
    if not isinstance(value, dict) or not isinstance(value.get("table"), list):
        return False
    texts = [value.get(name) for name in ("verdict", "reason", "images")]
    return all(_is_list(row, str) for row in value["table"]) and _is_list(texts, str)
