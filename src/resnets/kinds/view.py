"""What of an image is seen in an input: a box that is scaled to the input, and perhaps mirrored.

Images, boxes and masks go through the same view, so that they stay together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NOT_JUDGED = 255  # of a pixel in a mask


@dataclass(frozen=True)
class View:
    """A box of an image, as an input of some size. There is no rotation.

    Args:
        box: Left, top, right, bottom in pixels of the image; it may reach beyond the image.
        size: Height and width of the input, in pixels.
        mirror: Whether it is turned upside down, and left to right.
    """

    box: tuple[float, float, float, float]
    size: tuple[int, int]
    mirror: tuple[bool, bool] = (False, False)

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Places in the image, (n, 2) of x and y, to places in the input, float64."""
        left, top, right, bottom = self.box
        height, width = self.size
        scale = np.array([width / (right - left), height / (bottom - top)])
        found = (xy - np.array([left, top])) * scale
        return np.where(self.mirror[::-1], np.array([width, height]) - found, found)

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes in the image, (n, 4) of left, top, right, bottom, to boxes in the input, float64;
        they may reach beyond it."""
        corners = self.points(boxes.reshape(-1, 2)).reshape(-1, 2, 2)
        return np.concatenate([corners.min(1), corners.max(1)], 1)

    def pixels(self, values: np.ndarray, outside: int = NOT_JUDGED) -> np.ndarray:
        """Values for each pixel of the image, (H, W), to those of the input: each takes the one in
        which its centre lies.

        Args:
            values: Of the image.
            outside: The value beyond the image.
        """
        rows, columns = (self._seen(axis, values.shape[axis]) for axis in (0, 1))
        found = values[np.maximum(rows, 0)][:, np.maximum(columns, 0)]
        found[rows < 0] = outside
        found[:, columns < 0] = outside
        return found

    def _seen(self, axis: int, length: int) -> np.ndarray:
        """The pixel of the image for each pixel of the input along one side; -1 outside."""
        start, end = self.box[1 - axis], self.box[3 - axis]
        centres = (np.arange(self.size[axis]) + 0.5) / self.size[axis]
        places = np.floor(start + centres * (end - start)).astype(np.int64)
        places = places[::-1] if self.mirror[axis] else places
        return np.where((places < 0) | (places >= length), -1, places)
