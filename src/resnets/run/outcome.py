"""What comes of a trained model: measured on images it has not seen, and exported with whole ones
of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from resnets.clip import open_video, read_clip
from resnets.data.loader import PreparedImages
from resnets.data.sources import sample_photos
from resnets.evaluation import EVALUATORS
from resnets.evaluation.evaluator import Evidence
from resnets.evaluation.metrics import Metrics, clusters
from resnets.export import Proven, export_model
from resnets.files import csv_text
from resnets.kinds.inverse import InverseTransform
from resnets.kinds.prediction import Cell, Outputs, Prediction
from resnets.kinds.sample import Sample
from resnets.kinds.view import View
from resnets.modelfile import Model
from resnets.preprocessing import Preprocessing
from resnets.sampling import Sampling
from resnets.torch_engine import TorchEngine

LARGEST = float(np.finfo(np.float16).max)  # after a collapse, maps may lie beyond it
PROOF_IMAGES = 16  # whole images of the data that an export is compared on


class NotFinite(ValueError):
    """A network says NaN, which is no prediction: as a number it would count for class 0."""


@dataclass(frozen=True)
class Measured:
    """A model, measured on some images. What is large of a prediction is let go.

    Args:
        samples: The images.
        evidence: What the metrics need of each.
        predictions: Of each, `Prediction.light`, as seen in the input of the network.
        maps: (h, w) float16 of each, where its main class was seen; None where there is no map.
        rows: Of predictions.csv.
        metrics: All of it, measured.
    """

    samples: tuple[Sample, ...]
    evidence: tuple[Evidence, ...]
    predictions: tuple[Prediction, ...]
    maps: tuple[np.ndarray | None, ...]
    rows: tuple[dict[str, Cell], ...]
    metrics: Metrics

    def to_csv(self) -> str:
        """predictions.csv: what was said of each image."""
        return csv_text(self.rows)


def judged(
    engine: TorchEngine, images: PreparedImages, progress: Callable[[int], None] = lambda done: None
) -> Iterator[tuple[Prediction, Prediction]]:
    """The truth and the prediction of each image, one after the other.

    Raises:
        NotFinite: An output for an image is NaN or infinite.
        ValueError: An image of a class that the model does not know.
    """
    return ((truth, prediction) for truth, prediction, _ in _judged(engine, images, progress))


def _judged(
    engine: TorchEngine, images: PreparedImages, progress: Callable[[int], None]
) -> Iterator[tuple[Prediction, Prediction, View]]:
    """The same, with what the network saw of the image."""
    model = engine.model
    kind, options = model.task.kind, model.options
    size = 64 if max(images.preprocessing.size) >= 96 else 256
    for places, pixels, sizes in images.batches(size):
        samples = [images.samples[place] for place in places]
        outputs = engine.run(pixels)
        _refuse_infinite(outputs, [sample.name for sample in samples])
        for number, sample in enumerate(samples):
            inverse = InverseTransform(*images.preprocessing.axes(*sizes[number]))
            one = {name: array[number : number + 1] for name, array in outputs.items()}
            (truth,) = kind.ground_truth([sample], model.classes)
            (prediction,) = kind.unbatch(inverse(kind, one), [sample.name], model.classes, options)
            yield truth, prediction, images.preprocessing.view(*sizes[number])
        progress(int(places[-1]) + 1)


def _refuse_infinite(outputs: Outputs, names: Sequence[str]) -> None:
    for array in outputs.values():
        if np.issubdtype(array.dtype, np.floating):
            finite = np.isfinite(array).reshape(len(array), -1).all(1)
            if not finite.all():
                name = names[int(finite.argmin())]
                raise NotFinite(f"the outputs for {name} are not finite numbers")


def measure_model(
    model: Model, images: PreparedImages, progress: Callable[[int], None] = lambda done: None
) -> Measured:
    """Evaluates a model on samples."""
    evaluator = EVALUATORS[model.task.kind.name]
    evidence, predictions, maps, rows = [], [], [], []
    for sample, (truth, prediction, view) in zip(
        images.samples, _judged(TorchEngine(model), images, progress), strict=True
    ):
        evidence.append(evaluator.compare(truth, prediction))
        rows.append({"file": sample.name, **evaluator.row(truth, prediction)})
        heat = prediction.heat_map()
        maps.append(None if heat is None else heat.clip(-LARGEST, LARGEST).astype(np.float16))
        predictions.append(prediction.light().seen(view))
    groups = clusters([sample.group for sample in images.samples])
    metrics = evaluator.measure(evidence, model.classes, groups)
    return Measured(
        tuple(images.samples),
        tuple(evidence),
        tuple(predictions),
        tuple(maps),
        tuple(rows),
        metrics,
    )


def proof_images(
    preprocessing: Preprocessing, samples: Sequence[Sample] = (), sampling: Sampling | None = None
) -> list[Image.Image | Sequence[Image.Image]]:
    """Whole images, or clips, to prove an export on: of the data, spread over them, or those
    that ship with the package, which are all of one size."""
    paths = [sample.path for sample in samples] or sample_photos()
    places = np.unique(np.linspace(0, len(paths) - 1, PROOF_IMAGES).astype(int))
    if sampling and samples:
        return [_proof_clip(samples[place], sampling, preprocessing.channels) for place in places]
    images = [preprocessing.open(paths[place]) for place in places]
    if sampling:  # any images in a row, each clip beginning with another one
        order = np.add.outer(range(len(images)), range(sampling.frames)) % len(images)
        return [[images[place] for place in clip] for clip in order]
    return list(images)


def _proof_clip(sample: Sample, sampling: Sampling, channels: int) -> list[Image.Image]:
    with open_video(sample.path) as video:
        span = sample.span or sampling.windows(video.seconds)[0]
        return list(read_clip(video, sampling.times(span), channels))


def export_outcome(model: Model, path: Path, samples: Sequence[Sample] = ()) -> Proven:
    """Exports a model, proven on whole images of its data where they are at hand."""
    images = proof_images(model.preprocessing, samples, model.sampling)
    return export_model(model, path, images)
