"""Writes NAME.onnx, once every installed engine has answered as the model does, on whole
pictures."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from PIL import Image

from resnets.export.graph import build_graph, to_bytes
from resnets.modelfile import Model
from resnets.preprocessing import Preprocessing
from resnets.runtime.engines import Answer, Engine, available_engines, make_engine
from resnets.runtime.onnxfile import FORMAT, seal, whole, write_onnx

# largest difference of a probability: one grey level of resizing moves it by a tenth of that
LIMIT = 0.02
# Of the pooled features, relative to their length: a network that is sure of itself gives equal
# probabilities to anything. Rounding moves them by 0.006 at most, a mean that is off by a tenth,
# another crop or another filter by 0.04 and more.
FEATURES_LIMIT = 0.02
GOLDEN = 3  # pictures kept inside the file
GOLDEN_SIDE = 320  # their longer side, so that they stay small
SIZES = (
    (31, 20),
    (97, 224),
    (480, 640),
    (1500, 1000),
)  # heights and widths at which one picture is tried besides


class ProofFailed(Exception):
    """The exported file answers differently from the model; nothing was written."""


@dataclass(frozen=True)
class Proven:
    """An exported file and what was compared to prove it.

    Args:
        path: The file.
        engines: What ran it, with versions.
        pictures: Whole pictures compared, each in each engine.
        difference: The largest difference of any probability.
        agreeing: Comparisons in which the most probable class is the same.
        compared: All comparisons.
        megabytes: Size of the file.
    """

    path: Path
    engines: tuple[str, ...]
    pictures: int
    difference: float
    agreeing: int
    compared: int
    megabytes: float

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.megabytes:.1f} MB, proven on {self.pictures} pictures in"
            f" {', '.join(self.engines)}: same class in {self.agreeing} of {self.compared}, largest"
            f" difference of a probability {self.difference:.2g}"
        )


def export_model(model: Model, path: Path, pictures: Iterable[Image.Image]) -> Proven:
    """Writes a model as one ONNX file, if it can be proven to answer alike.

    Args:
        model: The trained model.
        path: `NAME.onnx`.
        pictures: Whole pictures to compare with, at least one, in the mode of the model's
            preprocessing (`Preprocessing.open`).

    Raises:
        ValueError: No pictures.
        ProofFailed: An engine answers differently; no file is written, an old one stays.
        OSError: It cannot be written.
    """
    model.answering.cpu()
    arrays = [whole(picture) for picture in pictures]
    if not arrays:
        raise ValueError(
            f"{path} was not written: a proof needs pictures, none were given; one is enough"
        )
    golden = [_shrunk(picture) for picture in arrays[:GOLDEN]]
    metadata = {**_metadata(model), "golden": [_golden_entry(model, picture) for picture in golden]}
    text = json.dumps(
        metadata, sort_keys=True, separators=(",", ":")
    )  # ASCII: names of classes need not be UTF-8
    content = to_bytes(build_graph(model.answering, model.preprocessing), text)
    sealed = seal(content)
    batches = _batches([*golden, *arrays], model.preprocessing)
    expected = [model(batch) for batch in batches]
    engines, differences, agreeing = [], [], 0
    for name in available_engines():
        engine = make_engine(name, sealed)
        engines.append(f"{engine.name} {engine.version.partition('-')[0]}")
        difference, features, same = _compare(engine, batches, expected)
        differences.append(difference)
        agreeing += same
        if not (difference <= LIMIT and features <= FEATURES_LIMIT):  # also when it is not a number
            raise ProofFailed(
                f"{path} was not written: in {engines[-1]} it answers differently from the model,"
                f" by up to {difference:.3g} in a probability (allowed: {LIMIT}) and {features:.3g}"
                f" of the pooled features (allowed: {FEATURES_LIMIT}); same class in {same} of"
                f" {sum(map(len, batches))} pictures"
            )
    write_onnx(path, content)
    count = sum(map(len, batches))
    return Proven(
        path,
        tuple(engines),
        count,
        max(differences),
        agreeing,
        count * len(engines),
        len(sealed) / 1e6,
    )


def rehearse(model: Model) -> None:
    """Builds the graph and throws it away: a network that cannot be exported is found before it is
    trained.

    Raises:
        ValueError: It cannot be exported; the exporter's reason is in the message.
    """
    try:
        build_graph(model.answering, model.preprocessing)
    except (
        torch.onnx.OnnxExporterError,
        onnx.checker.ValidationError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ValueError(
            f"{model.network_name} cannot be exported to ONNX ({reason}); trained, it would end"
            " without its .onnx"
        ) from error


def _metadata(model: Model) -> dict[str, Any]:
    kept = {
        key: value
        for key, value in model.metadata.items()
        if key in ("training", "metrics", "weights", "source")
    }
    if (
        "training" in kept
    ):  # the file goes to others: names of what it was made from, not where that lies
        kept["training"] = {
            key: (
                Path(value).name or value
                if key in ("data", "weights") and isinstance(value, str)
                else value
            )
            for key, value in kept["training"].items()
        }
    return {
        "format": FORMAT,
        "model": model.network_name,
        "network": model.network,
        "classes": list(model.classes),
        "preprocessing": model.preprocessing.to_dict(),
        "limit": LIMIT,
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__},
        **kept,
    }


def _compare(
    engine: Engine, batches: Sequence[np.ndarray], expected: Sequence[Answer]
) -> tuple[float, float, int]:
    """The largest difference of a probability, and of the pooled features; how many pictures get
    the same class."""
    difference, features, same = 0.0, 0.0, 0
    for batch, wanted in zip(batches, expected, strict=True):
        found = engine(batch)
        difference = float(
            np.maximum(difference, np.abs(found.probabilities - wanted.probabilities).max())
        )
        if found.embedding is not None and wanted.embedding is not None:
            lengths = np.maximum(np.linalg.norm(wanted.embedding, axis=1), 1e-6)
            features = float(
                np.maximum(
                    features,
                    (np.linalg.norm(found.embedding - wanted.embedding, axis=1) / lengths).max(),
                )
            )
        same += int((found.probabilities.argmax(1) == wanted.probabilities.argmax(1)).sum())
    return difference, features, same


def _batches(pictures: Sequence[np.ndarray], preprocessing: Preprocessing) -> list[np.ndarray]:
    """Every picture alone and whole; the first one at several sizes; batches of 2 and 5."""
    alone = [picture[None] for picture in pictures]
    resized = [_resized(pictures[0], size)[None] for size in SIZES]
    together = [
        np.stack(
            [
                _resized(pictures[place % len(pictures)], (200 + 8 * count, 300))
                for place in range(count)
            ]
        )
        for count in (2, 5)
    ]
    return alone + resized + together


def _golden_entry(model: Model, picture: np.ndarray) -> dict[str, Any]:
    png = io.BytesIO()
    _image(picture).save(png, "PNG", optimize=True)
    probabilities = model(picture[None]).probabilities[0]
    return {
        "png": base64.b64encode(png.getvalue()).decode(),
        "probabilities": [float(f"{probability:.7g}") for probability in probabilities],
    }


def _shrunk(picture: np.ndarray) -> np.ndarray:
    scale = min(1.0, GOLDEN_SIDE / max(picture.shape[:2]))
    return _resized(
        picture, (max(1, round(picture.shape[0] * scale)), max(1, round(picture.shape[1] * scale)))
    )


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return whole(_image(picture).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def _image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0])
