"""One label for an image, out of several classes that exclude one another."""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from PIL import Image

from resnets.imagenet import class_name
from resnets.kinds.drawing import write_lines
from resnets.kinds.kind import Difference, Kind, Output
from resnets.kinds.prediction import UNFAMILIAR, Cell, Outputs, Prediction, Share
from resnets.kinds.sample import Finding, Sample

NONE = "none of these"  # in place of a class, where that is asked for

OUTPUTS = {
    "probabilities": Output("N, classes", golden=True),
    "embedding": Output("N, features", always=False),
    "heat": Output("N, classes, h, w", always=False),
}
# float32: ten times the largest that `python benchmarks/proof_limits.py photos/` finds in 38
# networks, two engines, every fit and interpolation, photos and panoramas: 1.7e-4 and 1.6e-3 in a
# resnetv2_50d_gn with random weights, whose group norms amplify rounding; a trained resnet50 comes
# to 5.5e-6 and 4.1e-6. Three networks of 164 layers and more overflow with random weights (not a
# number in the model itself), and no limit is made for them.
# any: what the first files of format 1 say. Their golden images are scaled by the graph, where a
# grey level may be rounded to the other side; no file is believed to need more.
# int8: how far another engine or processor may be from ONNX Runtime at export, about three times
# what OpenVINO came to on 100 photos with a genuine resnet18, with VNNI or AVX2 alone (0.06 and
# 0.033), and on 153 ants and bees with a trained one (0.02 and 0.037; familiarity 0.065).
# bfloat16: how far float32 may be from OpenVINO in bfloat16 at export, as on processors without it;
# about three times what `python benchmarks/proof_limits.py photos/ --form bfloat16 FILE.onnx` finds
# for genuine networks on 200 photos: 0.061 and 0.05 for a resnet18, 0.071 and 0.13 for a resnet50;
# of familiarity 0.028 for a trained resnet18 on 153 ants and bees, of deeper networks not measured.
LIMITS = {
    "float32": {"probability": 2e-3, "features": 2e-2},
    "any": {"probability": 0.02, "features": 0.2},
    "int8": {"probability": 0.2, "features": 0.15},
    "bfloat16": {"probability": 0.2, "features": 0.4},
}


@dataclass(frozen=True, eq=False, repr=False)
class ClassPrediction(Prediction):
    """The class of one image.

    Args:
        file: The image, as it was named.
        classes: Names of the classes, in the order of the outputs.
        probabilities: (classes,) float32, sums to 1. None for a file that could not be read.
        embedding: (features,) float32, the pooled features; None where the file gives none.
        heat: (classes, h, w) float32, class activation maps: where in the input each class was
            seen.
        familiar: The share of held-out images that are at least as unlike the training images, from
            0 to 1; None where the file does not say.
        error: Why there is no prediction.
        notes: What was done to read the image ("turned upright (EXIF)").
        refused: Whether an image that is not familiar gets no class (`judged_by_familiarity`).
    """

    columns: ClassVar[Mapping[str, type]] = {"label": str, "probability": Share}
    further: ClassVar[Mapping[str, type]] = {"familiar": Share}

    probabilities: np.ndarray | None = None
    embedding: np.ndarray | None = None
    heat: np.ndarray | None = None
    familiar: float | None = None
    refused: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if (self.probabilities is None) == (self.error is None):
            raise ValueError(f"{self.file}: a prediction has either probabilities or an error")
        if self.probabilities is not None and self.probabilities.shape != (len(self.classes),):
            raise ValueError(
                f"{self.file}: probabilities of shape {self.probabilities.shape} for"
                f" {len(self.classes)} classes"
            )
        if self.heat is not None and (self.heat.ndim != 3 or len(self.heat) != len(self.classes)):
            raise ValueError(
                f"{self.file}: heat of shape {self.heat.shape}; ({len(self.classes)}, h, w) was"
                " expected"
            )

    @property
    def index(self) -> int | None:
        """Position of the most probable class."""
        return None if self.probabilities is None else int(self.probabilities.argmax())

    @property
    def label(self) -> str:
        """Name of the most probable class, or `NONE`; empty where there is no prediction."""
        if self.index is None:
            return ""
        return NONE if self.refused else self.classes[self.index]

    @property
    def probability(self) -> float:
        """Probability of `label`; not a number where there is no prediction."""
        return math.nan if self.probabilities is None else float(self.probabilities.max())

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable classes with their probabilities, best first."""
        if self.probabilities is None:
            return []
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.classes[i], float(self.probabilities[i])) for i in order]

    def summary(self) -> str:
        """See `Prediction`."""
        return f"{self.label!r}, {self.probability:.3f}"

    def rows(self) -> list[dict[str, Cell]]:
        """See `Prediction`."""
        probability = None if self.probabilities is None else self.probability
        row: dict[str, Cell] = {"label": self.label or None, "probability": probability}
        return [row if self.familiar is None else {**row, "familiar": self.familiar}]

    def by_class(self) -> np.ndarray | None:
        """The probabilities."""
        return self.probabilities

    def drawn(self, image: Image.Image) -> Image.Image:
        """The class and its probability in a corner."""
        if self.index is None:
            return image
        return write_lines(image, [(f"{self.label} {self.probability:.0%}", self.index)])

    def judged_by_familiarity(self) -> Self:
        """See `Prediction`."""
        return replace(self, refused=self.familiar is not None and self.familiar < UNFAMILIAR)

    @property
    def remark(self) -> str:
        """See `Prediction`."""
        return NONE if self.refused else ""

    def light(self) -> Self:
        """Without embedding and maps."""
        return replace(self, embedding=None, heat=None)

    def heat_map(self) -> np.ndarray | None:
        """The map of the most probable class."""
        return None if self.heat is None or self.index is None else self.heat[self.index]


def ground_truth(samples: Sequence[Sample], classes: tuple[str, ...]) -> list[Prediction]:
    """Samples with one label each, as predictions that are certain.

    Raises:
        ValueError: A class that the model does not know, or none or several in one sample.
    """
    return [
        ClassPrediction(sample.name, classes, class_truth(sample, classes)) for sample in samples
    ]


def class_truth(sample: Sample, classes: tuple[str, ...]) -> np.ndarray:
    """(classes,) float32: 1 for the one label of a sample.

    Raises:
        ValueError: A class that the model does not know, or none or several labels.
    """
    if len(sample.labels) != 1:
        raise ValueError(
            f"{sample.name}: {len(sample.labels)} labels; one of {', '.join(classes[:12])} is"
            " needed"
        )
    certain = np.zeros(len(classes), np.float32)
    certain[place_of(sample.labels[0], classes)] = 1
    return certain


def place_of(label: str, classes: tuple[str, ...]) -> int:
    """The position of a label among the classes, by name; never by the order of folders.

    Raises:
        ValueError: A class that the model does not know.
    """
    places = known_labels(classes)
    if label not in places:
        raise ValueError(
            f"classes the model does not know: {label}; it knows: {', '.join(classes[:12])}"
        )
    return places[label]


@functools.lru_cache(8)
def known_labels(classes: tuple[str, ...]) -> dict[str, int]:
    """The position of each class, by its name in the form in which readers give labels."""
    return {
        unicodedata.normalize("NFC", class_name(name)): number
        for number, name in enumerate(classes)
    }


def unbatch(
    outputs: Outputs, files: Sequence[str], classes: tuple[str, ...], options: Mapping[str, Any]
) -> list[Prediction]:
    """Outputs of a network for some images to a prediction for each."""
    names = ("embedding", "heat", "familiar")
    more = {name: outputs[name] for name in names if name in outputs}
    if "familiar" in more:
        more["familiar"] = more["familiar"].tolist()
    return [
        ClassPrediction(
            file, classes, probabilities, **{name: array[i] for name, array in more.items()}
        )
        for i, (file, probabilities) in enumerate(zip(files, outputs["probabilities"], strict=True))
    ]


def differences(found: Outputs, expected: Outputs, options: Mapping[str, Any]) -> Difference:
    """The largest difference of a probability, and of the pooled features relative to their
    length: a network that is sure of itself gives equal probabilities to anything."""
    probabilities, wanted = found["probabilities"], expected["probabilities"]
    values = {"probability": float(np.abs(probabilities - wanted).max())}
    if "embedding" in found and "embedding" in expected:
        lengths = np.maximum(np.linalg.norm(expected["embedding"], axis=1), 1e-6)
        apart = np.linalg.norm(found["embedding"] - expected["embedding"], axis=1)
        values["features"] = float((apart / lengths).max())
    if "familiar" in found and "familiar" in expected:
        values["familiarity"] = float(np.abs(found["familiar"] - expected["familiar"]).max())
    return Difference(values, int((probabilities.argmax(1) == wanted.argmax(1)).sum()))


def no_options(values: Mapping[str, Any], classes: Sequence[str]) -> Mapping[str, Any]:
    """Nothing that a file says of this task matters for a prediction."""
    return {}


def check(samples: Sequence[Sample], sizes: Sequence[tuple[int, int]]) -> list[Finding]:
    """Every reader of classes gives one label to each image, so that nothing can be wrong."""
    return []


CLASSES = Kind(
    name="classes",
    prediction=ClassPrediction,
    outputs={**OUTPUTS, "familiar": Output("N", always=False, golden=True)},
    fits=("crop", "pad", "stretch"),
    fewest_classes=2,
    limits={
        "float32": {**LIMITS["float32"], "familiarity": 0.01},
        "any": {**LIMITS["any"], "familiarity": 0.1},
        "int8": {**LIMITS["int8"], "familiarity": 0.2},
        "bfloat16": {**LIMITS["bfloat16"], "familiarity": 0.2},
    },
    options=no_options,
    check=check,
    ground_truth=ground_truth,
    unbatch=unbatch,
    differences=differences,
)
