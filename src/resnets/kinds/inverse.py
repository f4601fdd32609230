"""The inverse transform: what a network says of places in its input, said of the image. NumPy; the
exported graph repeats the same arithmetic (`export/inverse.py`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resnets.kinds.axis import Axis
from resnets.kinds.kind import Kind
from resnets.kinds.prediction import Outputs


@dataclass(frozen=True)
class InverseTransform:
    """From the input back to the image, for images of one size.

    Args:
        vertical: What became of the height (`Preprocessing.axes`).
        horizontal: What became of the width.
    """

    vertical: Axis
    horizontal: Axis

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Places in the input, (..., 2k) float32 with x and y in turn, to places in the image;
        what lies outside of it is moved to its border."""
        axes = (self.horizontal, self.vertical)
        scale, offset, most = (
            np.tile(np.array(values, np.float32), xy.shape[-1] // 2)
            for values in (
                [np.float32(axis.length) / np.float32(axis.resized) for axis in axes],
                [axis.offset for axis in axes],
                [axis.length for axis in axes],
            )
        )
        return np.clip((xy.astype(np.float32) + offset) * scale, np.float32(0), most)

    def pixels(self, values: np.ndarray) -> np.ndarray:
        """Values for each pixel of the input, (..., rows, columns), to (..., H, W) of the image:
        each pixel of the image takes the one in which its centre lies, or the nearest."""
        rows = values[..., _seen(self.vertical), :]
        return rows[..., _seen(self.horizontal)]

    def __call__(self, kind: Kind, outputs: Outputs) -> Outputs:
        """All outputs, those with a place in the input brought back to the image."""
        inverse = {"points": self.points, "pixels": self.pixels}
        places = {name: kind.outputs[name].place for name in outputs}
        return {
            name: inverse[places[name]](array) if places[name] else array
            for name, array in outputs.items()
        }


def _seen(axis: Axis) -> np.ndarray:
    """The pixel of the input for each pixel of the image. In whole numbers, so that nothing is
    rounded differently elsewhere."""
    middle = 2 * np.arange(axis.length) + 1  # in half pixels
    return np.clip(middle * axis.resized // (2 * axis.length) - axis.offset, 0, axis.size - 1)
