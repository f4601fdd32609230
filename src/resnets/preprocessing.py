"""From the pixels of an image to the numbers a network takes. NumPy and Pillow only.

One value, `Preprocessing`, says how images become input; one method, `pixels`, does it. Training,
evaluation, prediction and the verification of an export all call it, and the exported graph repeats
its arithmetic (`export/graph.py`).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from resnets.images import BadImage, open_image
from resnets.kinds.axis import Axis, Decoding
from resnets.kinds.view import View
from resnets.ranges import Range, check_range

BAND = 1 << 20  # pixels of an image that are converted and scaled at a time
MAX_SCALED = 16_000_000  # pixels of an image scaled along its rows alone: 64 MB
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
FITS = ("crop", "pad", "stretch")


class Croppable(Protocol):
    """An image that can be cut: one of Pillow in the mode of a network, or one that is converted
    where it is cut."""

    @property
    def width(self) -> int:
        """In pixels."""

    @property
    def height(self) -> int:
        """In pixels."""

    def crop(self, box: tuple[int, int, int, int]) -> Image.Image:
        """What lies between left, top, right and bottom."""


def _numbers(value: object, count: int) -> bool:
    """Whether a value, perhaps from a file, is so many finite numbers."""
    return (
        isinstance(value, tuple)
        and len(value) == count
        and all(type(number) in (int, float) and -1e9 < number < 1e9 for number in value)
    )


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes network input.

    Args:
        size: Height and width of the input, in pixels.
        resize: `crop`: the image is scaled to just cover this box before `size` is cut from its
            centre. 256 beside a size of 224 is the ImageNet habit. The other fits do not use it.
        channels: 3 (RGB) or 1 (grayscale).
        value_range: The largest value of a stored pixel: 255, or 65535 for 16-bit grayscale.
        fit: `crop` cuts the centre, `pad` keeps all of the image and fills the border, `stretch`
            ignores its shape.
        pad_color: The border's value, 0 to `value_range`.
        interpolation: `bilinear` or `bicubic`, both antialiased (Pillow's).
        mean: Subtracted from pixel / value_range, a number per channel.
        std: Divides what is left, a number per channel.
        deep_range: Of images with more than 8 bits a value: the values that become 0 and
            `value_range`, as measured over the training images; what lies outside is cut. None
            where none of those were deep: each is judged by its own values.
    """

    size: tuple[int, int] = (224, 224)
    resize: tuple[int, int] = (256, 256)
    channels: int = 3
    value_range: int = 255
    fit: str = "crop"
    pad_color: int = 0
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    deep_range: Range | None = None

    def __post_init__(self) -> None:
        def allow(name: str, allowed: tuple[Any, ...]) -> None:
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"preprocessing: {name} is {getattr(self, name)!r}; allowed:"
                    f" {', '.join(map(str, allowed))}"
                )

        allow("fit", FITS)
        allow("interpolation", tuple(RESAMPLING))
        allow("channels", (1, 3))
        allow("value_range", (255, 65535) if self.channels == 1 else (255,))
        for name in ("size", "resize"):
            value = getattr(self, name)
            if not _numbers(value, 2) or not all(type(side) is int and side >= 1 for side in value):
                raise ValueError(
                    f"preprocessing: {name} is {value!r:.80}; allowed: height and width, whole"
                    " numbers from 1 on"
                )
        if self.fit == "crop" and (self.resize[0] < self.size[0] or self.resize[1] < self.size[1]):
            raise ValueError(
                f"preprocessing: cannot crop {self.size} from {self.resize}; resize must be at"
                " least as large as size"
            )
        for name, least in (("mean", -math.inf), ("std", 0.0)):
            value = getattr(self, name)
            if not _numbers(value, self.channels) or not all(number > least for number in value):
                raise ValueError(
                    f"preprocessing: {name} is {value!r:.80}; allowed: a finite number for each of"
                    f" {self.channels} channels{', above 0' if name == 'std' else ''}"
                )
        if type(self.pad_color) is not int or not 0 <= self.pad_color <= self.value_range:
            raise ValueError(
                f"preprocessing: pad_color is {self.pad_color!r:.80}; allowed: whole numbers from 0"
                f" to {self.value_range}"
            )
        if self.deep_range is not None:
            check_range(self.deep_range)

    @classmethod
    def square(cls, size: int, crop: float = 1.0, **changes: Any) -> Preprocessing:
        """Preprocessing to `size` x `size`; `crop` is the part of the scaled image that is kept
        (0.875 = 224 of 256)."""
        return cls(size=(size, size), resize=(int(size / crop), int(size / crop)), **changes)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """The value again from `to_dict`, as it stands in the metadata of a file."""
        fields = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(set(values) - set(fields)):
            raise ValueError(
                f"preprocessing: unknown {', '.join(unknown)}; allowed: {', '.join(fields)}"
            )
        plain: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**plain)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and YAML."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @property
    def dtype(self) -> np.dtype:
        """Of stored pixels: uint8 or uint16."""
        return np.dtype(np.uint8 if self.value_range == 255 else np.uint16)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of what `pixels` gives."""
        return (*self.size, self.channels)

    @property
    def framed_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of what `framed` gives."""
        return (*(self.resize if self.fit == "crop" else self.size), self.channels)

    def axes(self, height: int, width: int) -> tuple[Axis, Axis]:
        """The vertical and horizontal axis for an image of this size, in whole numbers as
        torchvision computes them."""
        (out_h, out_w), (box_h, box_w) = self.size, self.resize
        if self.fit == "stretch":
            resized = (out_h, out_w)
        elif self.fit == "crop":  # cover the box: the tighter side fixes the scale
            wide = width * box_h >= height * box_w
            resized = (box_h, width * box_h // height) if wide else (height * box_w // width, box_w)
        else:  # fit inside the input
            wide = width * out_h >= height * out_w
            resized = (
                (max(1, height * out_w // width), out_w)
                if wide
                else (out_h, max(1, width * out_h // height))
            )
        return tuple(
            Axis(length, scaled, round((scaled - size) / 2), size)  # type: ignore[return-value]
            for length, scaled, size in zip((height, width), resized, self.size, strict=True)
        )

    def pixels(self, image: Croppable, decoding: Decoding | None = None) -> np.ndarray:
        """The input before normalisation: (height, width, channels) in the stored type.

        Args:
            image: Of `images.open_image`.
            decoding: How it was decoded, if not as it is.

        Raises:
            BadImage: It is so long and narrow that scaling it would fill the memory.
        """
        decoding = decoding or Decoding((image.height, image.width))
        vertical, horizontal = self.axes(*decoding.size)
        if max(vertical.resized, horizontal.resized) > 8 * max(self.size):
            # a panorama: scale only what is seen (what lies half-way between two grey levels may
            # be rounded the other way)
            return self.part(image, vertical, horizontal, decoding)
        (top, bottom), (left, right) = vertical.inside, horizontal.inside
        box = decoding.box((0, horizontal.length), (0, vertical.length))
        scaled = self._resized(image, (horizontal.resized, vertical.resized), box)
        y, x = top + vertical.offset, left + horizontal.offset
        seen = scaled.crop((x, y, x + right - left, y + bottom - top))
        return self._bordered(seen, vertical, horizontal)

    def part(
        self, image: Croppable, vertical: Axis, horizontal: Axis, decoding: Decoding | None = None
    ) -> np.ndarray:
        """What other axes than those of `axes` show of an image, scaled by itself: (height, width,
        channels) in the stored type.

        Raises:
            BadImage: As `pixels`.
        """
        (top, bottom), (left, right) = vertical.inside, horizontal.inside
        x, y = horizontal.to_image((left, right)), vertical.to_image((top, bottom))
        x0, y0, x1, y1 = (decoding or Decoding((image.height, image.width))).box(x, y)
        box = (x0, y0, min(x1, image.width), min(y1, image.height))
        seen = self._resized(image, (right - left, bottom - top), box)
        return self._bordered(seen, vertical, horizontal)

    def _bordered(self, seen: Image.Image, vertical: Axis, horizontal: Axis) -> np.ndarray:
        """What is inside of an image, with the border around it."""
        out = np.full((vertical.size, horizontal.size, self.channels), self.pad_color, self.dtype)
        inside = out[slice(*vertical.inside), slice(*horizontal.inside)]
        inside[:] = np.asarray(seen).reshape(inside.shape)
        return out

    def _resized(
        self, image: Croppable, size: tuple[int, int], box: tuple[float, float, float, float]
    ) -> Image.Image:
        """`Image.resize` of this box in two steps, first along the rows.

        Pillow rounds between its two steps, and which side comes first depends on its version and
        the image; the exported graph knows one order. The image is taken in bands of rows, so that
        no second copy of a large one is ever in memory.
        """
        resampling, (x0, y0, x1, y1) = RESAMPLING[self.interpolation], box
        # The box and what the filter sees around it: two source pixels for one of the output
        reach_x, reach_y = (
            2 + math.ceil(2 * max(1.0, (end - start) / length))
            for start, end, length in ((x0, x1, size[0]), (y0, y1, size[1]))
        )
        left, right = max(0, int(x0) - reach_x), min(image.width, math.ceil(x1) + reach_x)
        top, bottom = max(0, int(y0) - reach_y), min(image.height, math.ceil(y1) + reach_y)
        if size[0] * (bottom - top) > MAX_SCALED:
            raise BadImage(f"{image.width} x {image.height} pixels: too long and narrow to scale")
        rows = max(1, BAND // (right - left))
        across: Image.Image | None = None
        for start in range(top, bottom, rows):
            band = image.crop((left, start, right, min(start + rows, bottom)))
            scaled = band.resize(
                (size[0], band.height), resampling, (x0 - left, 0, x1 - left, band.height)
            )
            if across is None and band.height == bottom - top:
                across = scaled
                break
            if across is None:
                across = Image.new(scaled.mode, (size[0], bottom - top))
            across.paste(scaled, (0, start - top))
        assert across is not None
        return across.resize(size, resampling, (0, y0 - top, size[0], y1 - top))

    def framed(self, pixels: np.ndarray) -> np.ndarray:
        """An image, or several, that becomes exactly these pixels: (..., height, width, C) of
        `pixels`, which are scaled and cut no further. For `crop` it stands in the middle of a box
        of `resize`, whose border is not seen.

        An exported graph takes whole images; handed such a one, all it does is normalise it.
        """
        if self.fit != "crop":
            return pixels
        vertical, horizontal = self.axes(*self.resize)
        out = np.zeros((*pixels.shape[:-3], *self.resize, self.channels), self.dtype)
        out[
            ...,
            vertical.offset : vertical.offset + vertical.size,
            horizontal.offset : horizontal.offset + horizontal.size,
            :,
        ] = pixels
        return out

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """(N, H, W, C) stored pixels to (N, C, H, W) float32 as the network takes it, channels last
        in memory; of clips (N, T, H, W, C) to (N, C, T, H, W)."""
        width = pixels.shape[-2]
        # a row of pixels at a time: NumPy is slow where the innermost axis is of three values
        mean, std = (np.tile(np.array(one, np.float32), width) for one in (self.mean, self.std))
        scaled = pixels.reshape(*pixels.shape[:-2], -1).astype(np.float32)
        scaled /= self.value_range
        scaled -= mean
        scaled /= std
        return np.moveaxis(scaled.reshape(pixels.shape), -1, 1)

    def open(self, source: Path | str | bytes, short_side: int | None = None) -> Image.Image:
        """`open_image` with this value's channels and ranges."""
        return self.open_sized(source, short_side)[0]

    def open_sized(
        self, source: Path | str | bytes, short_side: int | None = None
    ) -> tuple[Image.Image, tuple[int, int]]:
        """The same, with the height and width of all of it, however much it was reduced."""
        ranges = self.value_range, short_side, self.deep_range
        image, _, (width, height) = open_image(source, self.channels, *ranges)
        return image, (height, width)

    def view(self, height: int, width: int) -> View:
        """What the input shows of an image of this size."""
        axes = self.axes(height, width)
        (top, bottom), (left, right) = (axis.to_image((0, axis.size)).tolist() for axis in axes)
        return View((left, top, right, bottom), self.size)
