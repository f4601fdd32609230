"""The prediction for an image, as every package passes it on. NumPy only; shapes are checked on
construction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False, repr=False)  # arrays do not compare to one truth
class Prediction:
    """The prediction for one image, or the reason why there is none.

    Args:
        file: The image, as it was named.
        classes: Names of the classes, in the order of the outputs.
        probabilities: (classes,) float32, sums to 1. None for a file that could not be read.
        embedding: (features,) float32, the pooled features; None where the file gives none.
        heat: (classes, h, w) float32, class activation maps: where in the input each class was
            seen.
        error: Why there is no prediction.
        notes: What was done to read the image ("turned upright (EXIF)").
    """

    file: str
    classes: tuple[str, ...]
    probabilities: np.ndarray | None = None
    embedding: np.ndarray | None = None
    heat: np.ndarray | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()

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

    def __repr__(self) -> str:
        said = f"error={self.error!r}" if self.error else f"{self.label!r}, {self.probability:.3f}"
        return f"Prediction({self.file!r}, {said})"

    @property
    def index(self) -> int | None:
        """Position of the most probable class."""
        return None if self.probabilities is None else int(self.probabilities.argmax())

    @property
    def label(self) -> str:
        """Name of the most probable class; empty where there is no prediction."""
        return "" if self.index is None else self.classes[self.index]

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
