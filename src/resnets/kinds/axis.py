"""One side of an image and one side of the input, in whole numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Axis:
    """How one side of an image becomes one side of the input: scaled to `resized`, then `size`
    pixels from `offset` on.

    A negative `offset` is padding. Output pixel i looks at the place `(i + offset + 0.5) * length /
    resized`.
    """

    length: int
    resized: int
    offset: int
    size: int

    @property
    def scale(self) -> float:
        """Source pixels per input pixel."""
        return self.length / self.resized

    @property
    def inside(self) -> tuple[int, int]:
        """The first pixel of the input that shows the image, and the one after the last."""
        return max(0, -self.offset), min(self.size, self.resized - self.offset)

    def to_image(self, x: ArrayLike) -> np.ndarray:
        """Coordinates in the input (pixels, edges at 0 and `size`) to coordinates in the
        image."""
        return (np.asarray(x, np.float64) + self.offset) * self.scale

    def to_input(self, x: ArrayLike) -> np.ndarray:
        """The way there: coordinates in the image to coordinates in the input."""
        return np.asarray(x, np.float64) / self.scale - self.offset
