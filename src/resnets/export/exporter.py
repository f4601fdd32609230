"""Writes NAME.onnx, once it is verified in every installed engine.

Comparisons, each with a narrow limit. The nodes before the network, on whole images of many sizes,
give the input that `Preprocessing` gives: to the bit but for rounding, where Pillow's fixed-point
numbers and the graph's floating-point ones fall to either side of one half. The whole graph, on
images that it need not scale, gives the model's own outputs to float32 rounding. The nodes behind
the network, where there are some, bring made-up places back to images of many sizes as
`InverseTransform` does. Outputs on scaled images could not be compared as narrowly: one grey level
in a thousand pixels moves a probability by up to 0.01.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from PIL import Image

from resnets.export.comparison import (
    beyond_limits,
    compare_inputs,
    compare_outputs,
    compare_places,
    probe_places,
)
from resnets.export.graph import back, build_graph, front, to_bytes
from resnets.formats import FORMAT
from resnets.modelfile import Model
from resnets.preprocessing import Preprocessing
from resnets.runtime.engines import ENGINES, available_engines, make_engine
from resnets.runtime.golden import to_image, whole, write_golden
from resnets.runtime.onnxfile import seal, write_onnx
from resnets.tasks import describe_task
from resnets.torch_engine import TorchEngine

GOLDEN = 3  # images kept inside the file
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
        pictures: Images of which the outputs were compared, each in each engine.
        difference: The largest difference of the first value that the kind of prediction compares.
        agreeing: Comparisons in which both come to the same decision.
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
            + (f"; another decision in {others} of {self.compared} comparisons" if others else "")
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


def export_model(
    model: Model, path: Path, images: Iterable[Image.Image | Sequence[Image.Image]]
) -> Proven:
    """Writes a model as one ONNX file, once it is verified to equal the model.

    Args:
        model: The trained model.
        path: `NAME.onnx`.
        images: Whole images to compare with, at least one, in the mode of the model's
            preprocessing (`Preprocessing.open`); where the model takes clips, the images of each.

    Raises:
        ValueError: No images, or the file could not be written there.
        ProofFailed: It differs in some engine; no file is written, an old one stays.
        OSError: It cannot be written.
    """
    check_target(path)
    model.net.cpu()
    arrays = [_array(image) for image in images]
    if not arrays:
        raise ValueError(
            f"{path} was not written: it is verified on images, and none were given; one is enough"
        )
    run, kind = TorchEngine(model), model.task.kind
    prepared = [_prepared(array, model.preprocessing) for array in arrays]
    text = _metadata(run, prepared[:GOLDEN])
    graph = build_graph(run.inference, model.preprocessing, kind, model.sampling)
    content = to_bytes(graph, text)
    sealed, beginning = seal(content), front(content)
    wholes, framed = _batches(arrays), _framed(prepared, model.preprocessing)
    inputs = [_prepared(batch, model.preprocessing) for batch in wholes]
    expected = [run(batch) for batch in framed]
    places = probe_places(kind, run.run(prepared[0][None]))
    ending = back(content, places) if places else b""
    engines, largest, agreeing = [], 0.0, 0
    for name in available_engines():
        engine = make_engine(name, sealed)
        engines.append(f"{engine.name} {engine.version.partition('-')[0]}")
        found = compare_inputs(make_engine(name, beginning), wholes, inputs, model)
        difference = compare_outputs(engine, framed, expected, model)
        off = compare_places(make_engine(name, ending), SIZES, places, model) if places else 0.0
        if reasons := beyond_limits(found, off, difference, kind.limits["float32"]):
            raise ProofFailed(
                f"{path} was not written: in {engines[-1]} it differs from the model in"
                f" {'; '.join(reasons)}"
            )
        largest = max(largest, next(iter(difference.values.values())))
        agreeing += difference.agreeing
    write_onnx(path, content)
    count = sum(map(len, framed))
    compared, size = count * len(engines), len(sealed) / 1e6
    return Proven(path, tuple(engines), count, largest, agreeing, compared, size)


def rehearse(model: Model) -> None:
    """Builds the graph and throws it away: a network that cannot be exported is found before it is
    trained.

    Raises:
        ValueError: It cannot be exported; the exporter's reason is in the message.
    """
    try:
        build_graph(
            TorchEngine(model).inference, model.preprocessing, model.task.kind, model.sampling
        )
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


def _metadata(run: TorchEngine, prepared: Sequence[np.ndarray]) -> str:
    """All that the file says beside its graph, with these images (prepared input) as golden ones:
    JSON in ASCII, since names of classes need not be UTF-8."""
    model = run.model
    images = [model.preprocessing.framed(pixels) for pixels in prepared]
    outputs = [run(image[None]) for image in images]
    kind = model.task.kind
    kept = {
        key: value
        for key, value in model.metadata.items()
        if key in ("training", "metrics", "weights", "source", "image_size")
    }
    if "training" in kept:
        # the file goes to others: names of what it was made from, not where that lies
        kept["training"] = {
            key: (
                Path(value).name or value
                if key in ("data", "weights") and isinstance(value, str)
                else value
            )
            for key, value in kept["training"].items()
        }
    metadata = {
        "format": FORMAT,
        "model": model.network_name,
        "network": model.network,
        "task": describe_task(model.task),
        "classes": list(model.classes),
        "preprocessing": model.preprocessing.to_dict(),
        **({"sampling": model.sampling.to_dict()} if model.sampling else {}),
        "outputs": {name: kind.outputs[name].shape for name in outputs[0]},
        "limits": dict(kind.limits["float32"]),
        "golden": [
            write_golden(kind, [to_image(one) for one in _stills(image)], found)
            for image, found in zip(images, outputs, strict=True)
        ],
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__},
        **kept,
    }
    return json.dumps(metadata, sort_keys=True, separators=(",", ":"))


def _batches(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Every image alone and whole; the first one at several sizes; a batch of 2."""
    alone = [image[None] for image in images]
    resized = [_resized(images[0], size)[None] for size in SIZES]
    together = [_resized(images[place % len(images)], (216, 300)) for place in range(2)]
    return [*alone, *resized, np.stack(together)]


def _framed(prepared: Sequence[np.ndarray], preprocessing: Preprocessing) -> list[np.ndarray]:
    """Images that the graph need not scale: each alone, and batches of 2 and 5."""
    alone = [preprocessing.framed(pixels)[None] for pixels in prepared]
    together = [
        np.concatenate([alone[place % len(alone)] for place in range(count)]) for count in (2, 5)
    ]
    return alone + together


def _array(image: Image.Image | Sequence[Image.Image]) -> np.ndarray:
    """An image (H, W, C), or a clip (T, H, W, C)."""
    return whole(image) if isinstance(image, Image.Image) else np.stack([*map(whole, image)])


def _stills(array: np.ndarray) -> np.ndarray:
    """The images in an array of any number of dimensions."""
    return array.reshape(-1, *array.shape[-3:])


def _prepared(array: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Whole images, in an array of any number of dimensions, as they are prepared."""
    prepared = np.stack([preprocessing.pixels(to_image(image)) for image in _stills(array)])
    return prepared.reshape(*array.shape[:-3], *prepared.shape[1:])


def _resized(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    images = [
        whole(to_image(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
        for image in _stills(array)
    ]
    return np.stack(images).reshape(*array.shape[:-3], *images[0].shape)
