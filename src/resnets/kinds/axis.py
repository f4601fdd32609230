"""One side of an image and one side of the input, in whole numbers; and how an image may have been
decoded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

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


class Decoding(NamedTuple):
    """How an image was decoded.

    Args:
        size: Its own height and width, upright.
        scale: Its pixels for one that was decoded, each way: 1, 2, 4 or 8.
        corner: Where in the decoded image it begins, from the left and from the top: the last
            pixels of a file may show less than others, and mirrored they are the first ones.
    """

    size: tuple[int, int]
    scale: int = 1
    corner: tuple[float, float] = (0.0, 0.0)

    def box(self, x: Iterable[float], y: Iterable[float]) -> tuple[float, float, float, float]:
        """Left, top, right and bottom in the decoded image of a box in the image itself."""
        (x0, x1), (y0, y1), (left, top) = x, y, self.corner
        return (
            x0 / self.scale + left,
            y0 / self.scale + top,
            x1 / self.scale + left,
            y1 / self.scale + top,
        )
