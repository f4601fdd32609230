"""Writes NAME.onnx, once it is verified in every installed engine.

Two comparisons, each with a narrow limit. The nodes before the network, on whole images of many
sizes, give the input that `Preprocessing` gives: to the bit but for rounding, where Pillow's
fixed-point numbers and the graph's floating-point ones fall to either side of one half. The whole
graph, on images that it need not scale, gives the model's own answers to float32 rounding. Answers
on scaled images could not be compared as narrowly: one grey level in a thousand pixels moves a
probability by up to 0.01.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from PIL import Image

from resnets.export.graph import build_graph, front, to_bytes
from resnets.modelfile import Model
from resnets.preprocessing import Preprocessing
from resnets.runtime.engines import ENGINES, Answer, Engine, available_engines, make_engine
from resnets.runtime.onnxfile import FORMAT, LIMITS, seal, whole, write_onnx

GOLDEN = 3  # images kept inside the file
# How far the prepared input may be off, in grey levels of 255: ten times what `python
# benchmarks/proof_limits.py` finds on average, and one level more than it finds at most
INPUT_MEAN, INPUT_MOST = 0.25, 3.0
SIZES = (
    (31, 20),
    (97, 224),
    (480, 640),
    (1500, 1000),
)  # heights and widths at which one image is tried besides


class ProofFailed(Exception):
    """The exported file differs from the model; nothing was written."""


@dataclass(frozen=True)
class Proven:
    """An exported file and what was compared to verify it.

    Args:
        path: The file.
        engines: What ran it, with versions.
        pictures: Images of which the probabilities were compared, each in each engine.
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
        ran = ", ".join(_titled(engine) for engine in self.engines)
        others = self.compared - self.agreeing
        return (
            f"{self.path} ({self.megabytes:.1f} MB), verified: ONNX equals PyTorch on"
            f" {self.pictures} images ({ran}), largest difference {self.difference:.1e}"
            + (f"; another top class in {others} of {self.compared} comparisons" if others else "")
        )


def _titled(engine: str) -> str:
    """`onnxruntime 1.32.0` as people write it: ONNX Runtime 1.32."""
    name, _, version = engine.partition(" ")
    return f"{ENGINES[name].title} {'.'.join(version.split('.')[:2])}"


def check_target(path: Path) -> None:
    """Whether an exported file could be written there, before any work is done for it.

    Raises:
        ValueError: It has another suffix, is a folder, or its folder is missing or read-only.
    """
    if path.suffix != ".onnx":
        raise ValueError(f"{path}: an exported file is called NAME.onnx; choose such a name")
    if path.is_dir():
        raise ValueError(f"{path}: a folder; name a file in it: {path / 'NAME.onnx'}")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}; make it first")
    if not os.access(path.absolute().parent, os.W_OK):
        raise ValueError(f"{path}: no permission to write into {path.absolute().parent}")


def export_model(model: Model, path: Path, images: Iterable[Image.Image]) -> Proven:
    """Writes a model as one ONNX file, once it is verified to equal the model.

    Args:
        model: The trained model.
        path: `NAME.onnx`.
        images: Whole images to compare with, at least one, in the mode of the model's
            preprocessing (`Preprocessing.open`).

    Raises:
        ValueError: No images, or the file could not be written there.
        ProofFailed: It differs in some engine; no file is written, an old one stays.
        OSError: It cannot be written.
    """
    check_target(path)
    model.answering.cpu()
    arrays = [whole(image) for image in images]
    if not arrays:
        raise ValueError(
            f"{path} was not written: it is verified on images, and none were given; one is enough"
        )
    prepared = [model.preprocessing.pixels(_image(array)) for array in arrays]
    golden = [_golden_entry(model, pixels) for pixels in prepared[:GOLDEN]]
    # ASCII: names of classes need not be UTF-8
    text = json.dumps({**_metadata(model), "golden": golden}, sort_keys=True, separators=(",", ":"))
    content = to_bytes(build_graph(model.answering, model.preprocessing), text)
    sealed, beginning = seal(content), front(content)
    wholes, framed = _batches(arrays), _framed(prepared, model.preprocessing)
    inputs = [_prepared(batch, model.preprocessing) for batch in wholes]
    expected = [model(batch) for batch in framed]
    engines, differences, agreeing = [], [], 0
    for name in available_engines():
        engine = make_engine(name, sealed)
        engines.append(f"{engine.name} {engine.version.partition('-')[0]}")
        mean, most = compare_inputs(make_engine(name, beginning), wholes, inputs, model)
        difference, features, same = compare_answers(engine, framed, expected)
        differences.append(difference)
        agreeing += same
        reasons = _beyond(
            ("its input, on average in grey levels", mean, INPUT_MEAN),
            ("its input, at most in grey levels", most, INPUT_MOST),
            ("a probability", difference, LIMITS["float32"].probability),
            ("the pooled features", features, LIMITS["float32"].features),
        )
        if reasons:
            raise ProofFailed(
                f"{path} was not written: in {engines[-1]} it differs from the model in"
                f" {'; '.join(reasons)}"
            )
    write_onnx(path, content)
    count = sum(map(len, framed))
    return Proven(
        path,
        tuple(engines),
        count,
        max(differences),
        agreeing,
        count * len(engines),
        len(sealed) / 1e6,
    )


def _beyond(*measured: tuple[str, float, float]) -> list[str]:
    """What is larger than allowed, or not a number."""
    return [
        f"{what} by {value:.3g} (allowed: {limit})"
        for what, value, limit in measured
        if not value <= limit
    ]


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
        "limit": LIMITS["float32"].probability,
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__},
        **kept,
    }


def compare_inputs(
    beginning: Engine, batches: Sequence[np.ndarray], expected: Sequence[np.ndarray], model: Model
) -> tuple[float, float]:
    """How far the input that a graph prepares is from what it should be, in grey levels of 255: the
    largest mean of an image, and the largest of all.

    Args:
        beginning: Runs what `front` gives.
        batches: Whole images.
        expected: Their `Preprocessing.pixels`.
        model: Whose preprocessing it is.
    """
    value, mean, most = model.preprocessing, 0.0, 0.0
    std = np.asarray(value.std, np.float32).reshape(1, -1, 1, 1)
    for batch, pixels in zip(batches, expected, strict=True):
        found = beginning(batch).probabilities
        difference = np.abs(found - value.normalise(pixels)) * std * 255
        mean = float(np.maximum(mean, difference.mean((1, 2, 3)).max()))
        most = float(np.maximum(most, difference.max()))
    return mean, most


def compare_answers(
    engine: Engine, batches: Sequence[np.ndarray], expected: Sequence[Answer]
) -> tuple[float, float, int]:
    """The largest difference of a probability, and of the pooled features relative to their length;
    how many images get the same class."""
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


def _batches(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Every image alone and whole; the first one at several sizes; a batch of 2."""
    alone = [picture[None] for picture in pictures]
    resized = [_resized(pictures[0], size)[None] for size in SIZES]
    together = [_resized(pictures[place % len(pictures)], (216, 300)) for place in range(2)]
    return [*alone, *resized, np.stack(together)]


def _framed(prepared: Sequence[np.ndarray], preprocessing: Preprocessing) -> list[np.ndarray]:
    """Images that the graph need not scale: each alone, and batches of 2 and 5."""
    alone = [preprocessing.framed(pixels)[None] for pixels in prepared]
    together = [
        np.concatenate([alone[place % len(alone)] for place in range(count)]) for count in (2, 5)
    ]
    return alone + together


def _prepared(batch: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    return np.stack([preprocessing.pixels(_image(picture)) for picture in batch])


def _golden_entry(model: Model, pixels: np.ndarray) -> dict[str, Any]:
    picture = model.preprocessing.framed(pixels)
    png = io.BytesIO()
    _image(picture).save(png, "PNG", optimize=True)
    probabilities = model(picture[None]).probabilities[0]
    return {
        "png": base64.b64encode(png.getvalue()).decode(),
        "probabilities": [float(f"{probability:.7g}") for probability in probabilities],
    }


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return whole(_image(picture).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def _image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0])
