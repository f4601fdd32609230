"""Large images in overlapping tiles, for networks whose outputs are pixels.

An image is scaled as a whole to the scale that the network was trained at, and cut into inputs that
overlap. Each pixel takes what is said of it in the tile in which it lies deeper: so the seams are
as far from the borders of tiles as they can be, where a network sees both sides of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from resnets.kinds import Kind
from resnets.kinds.axis import Axis, Decoding
from resnets.kinds.prediction import Outputs
from resnets.preprocessing import Croppable, Preprocessing
from resnets.runtime.engines import Engine, EngineError

OVERLAP = 0.5  # of the side of a tile that its neighbour shows too, or nearly (`STRIDE`)
STRIDE = 32  # pixels a place of the coarsest maps stands for: tiles see the image on the same grid
ROOM = 1.5  # sides of an input that an image may have and be predicted as a whole


@dataclass(frozen=True)
class Tiles(Preprocessing):
    """What `Preprocessing` is, but that large images become an array larger than the input, which
    `TiledEngine` takes.

    Args:
        image_size: Height and width in pixels of the images that the network knows: they fill one
            input.
    """

    image_size: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, preprocessing: Preprocessing, metadata: Mapping[str, Any]) -> Tiles:
        """For a network with its preprocessing and what its file says.

        Raises:
            ValueError: It does not say how large the images of training were.
        """
        sides = metadata.get("image_size")
        if not (
            isinstance(sides, Sequence)
            and len(sides) == 2
            and all(type(side) is int and side > 0 for side in sides)
        ):
            raise ValueError(
                "tiles: nothing says how large the images of training were, so that the scale of"
                " tiles is unknown; train the network again, or predict whole images"
            )
        return cls(**vars(preprocessing), image_size=tuple(sides))

    def axes(self, height: int, width: int) -> tuple[Axis, Axis]:
        """Those of one input for an image that is not large, else of an array as large as the image
        is at the scale of training."""
        known = super().axes(*self.image_size)
        lengths = [
            max(1, length * one.resized // one.length)
            for length, one in zip((height, width), known, strict=True)
        ]
        if all(length <= ROOM * side for length, side in zip(lengths, self.size, strict=True)):
            return super().axes(height, width)
        sides = [max(pair) for pair in zip(lengths, self.size, strict=True)]
        vertical, horizontal = (
            Axis(length, resized, round((resized - side) / 2), side)
            for length, resized, side in zip((height, width), lengths, sides, strict=True)
        )
        return vertical, horizontal

    def pixels(self, image: Croppable, decoding: Decoding | None = None) -> np.ndarray:
        """See `Preprocessing.pixels`; larger than the input for a large image."""
        decoding = decoding or Decoding((image.height, image.width))
        vertical, horizontal = self.axes(*decoding.size)
        if (vertical.size, horizontal.size) == self.size:
            return super().pixels(image, decoding)
        rows = self.size[0]  # at a time, so that memory is bounded
        return np.concatenate(
            [
                self.part(
                    image,
                    replace(
                        vertical,
                        offset=vertical.offset + start,
                        size=min(rows, vertical.size - start),
                    ),
                    horizontal,
                    decoding,
                )
                for start in range(0, vertical.size, rows)
            ]
        )


class TiledEngine:
    """An engine for images as large as they come.

    Args:
        engine: Takes images of one size.
        size: Their height and width.
        kind: What it predicts.

    Raises:
        ValueError: Something else than a value for each pixel.
    """

    def __init__(self, engine: Engine, size: tuple[int, int], kind: Kind) -> None:
        if not all(output.place == "pixels" for output in kind.outputs.values()):
            raise ValueError(
                f"tiles: predictions of the task {kind.name} are not a value for each pixel, and"
                " cannot be put together; predict whole images"
            )
        self.engine, self.size = engine, size
        self.name, self.version = engine.name, engine.version

    def __call__(self, image: np.ndarray) -> Outputs:
        """Outputs for (N, height, width, C) images of any size that is not below that of the
        engine."""
        sides = image.shape[1:3]
        if sides == self.size:
            return self.engine(image)
        merged: dict[str, np.ndarray] = {}
        for row, column in itertools.product(*map(cuts, sides, self.size)):
            tile = np.ascontiguousarray(image[:, row.tile, column.tile])
            for name, array in self.engine(tile).items():
                if array.shape[-2:] != self.size:
                    raise EngineError(f"the network gave {name} of shape {array.shape} for a tile")
                whole = merged.setdefault(name, np.empty((*array.shape[:-2], *sides), array.dtype))
                whole[..., row.kept, column.kept] = array[..., row.inner, column.inner]
        return merged


@dataclass(frozen=True)
class Cut:
    """One tile along one side.

    Args:
        tile: What it shows.
        kept: What is taken from it.
    """

    tile: slice
    kept: slice

    @property
    def inner(self) -> slice:
        """What is taken from it, counted in the tile."""
        return slice(self.kept.start - self.tile.start, self.kept.stop - self.tile.start)


def cuts(length: int, side: int) -> Iterator[Cut]:
    """Tiles along one side; the seams lie in the middle of what two of them share.

    Args:
        length: Of what is cut.
        side: Of a tile, not longer.
    """
    step = max(1, int(side * (1 - OVERLAP)))
    step = round(step / STRIDE) * STRIDE if step >= STRIDE else step
    starts = [*range(0, length - side, step), length - side]
    seams = [0, *((a + b + side) // 2 for a, b in itertools.pairwise(starts)), length]
    for start, (first, last) in zip(starts, itertools.pairwise(seams), strict=True):
        yield Cut(slice(start, start + side), slice(first, last))
