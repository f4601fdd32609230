"""From the bytes of an image to the numbers a network takes. NumPy and Pillow only.

One value, `Preprocessing`, says how images become input; one method, `pixels`, does it. Training,
evaluation, prediction and the proof of an export all call it, and the exported graph repeats its
arithmetic (`export/graph.py`).
"""

from __future__ import annotations

import dataclasses
import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from resnets.deep import NoValues, judge, measure, remarks, scale
from resnets.listing import HEAD, HEIC_CURE, heic_installed, is_heic
from resnets.ranges import FULL, Range, check_range

# Pillow's own limit, 13,377 x 13,377: beyond it an image is refused before any of it is decoded
MAX_PIXELS = 178_956_970
BAND = 1 << 20  # pixels of an image that are converted and scaled at a time
MAX_SCALED = 16_000_000  # pixels of an image scaled along its rows alone: 64 MB
FORMATS = (
    "BMP",
    "GIF",
    "JPEG",
    "JPEG2000",
    "PNG",
    "PPM",
    "TIFF",
    "WEBP",
    "AVIF",  # last: looking for it loads all of Pillow's readers
)  # not EPS: Pillow runs a program to read it
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    RuntimeError,  # of the AVIF decoder
    Image.DecompressionBombError,
)
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
FITS = ("crop", "pad", "stretch")

# Remarks about odd EXIF, palettes and large images would tear up a progress bar. Here once, not
# around each call: `warnings.catch_warnings` changes the whole process and is not made for threads.
for _category in (UserWarning, Image.DecompressionBombWarning):
    warnings.filterwarnings("ignore", category=_category, module=r"PIL\.")


class BadImage(ValueError):
    """A file that cannot be read as an image; the message is the reason, fit for a table."""


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

    def to_image(self, x: ArrayLike) -> np.ndarray:
        """Coordinates in the input (pixels, edges at 0 and `size`) to coordinates in the
        image."""
        return (np.asarray(x, np.float64) + self.offset) * self.scale

    def to_input(self, x: ArrayLike) -> np.ndarray:
        """The way there: coordinates in the image to coordinates in the input."""
        return np.asarray(x, np.float64) / self.scale - self.offset


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

    def pixels(self, image: Croppable) -> np.ndarray:
        """The input before normalisation: (height, width, channels) in the stored type, from a
        image of `open_image`.

        Raises:
            BadImage: It is so long and narrow that scaling it would fill the memory.
        """
        axes = vertical, horizontal = self.axes(image.height, image.width)
        (top, bottom), (left, right) = [
            (max(0, -axis.offset), min(axis.size, axis.resized - axis.offset)) for axis in axes
        ]
        if max(vertical.resized, horizontal.resized) <= 8 * max(self.size):
            scaled = self._resized(image, (horizontal.resized, vertical.resized))
            y, x = top + vertical.offset, left + horizontal.offset
            part = scaled.crop((x, y, x + right - left, y + bottom - top))
        # a panorama: scale only what is seen (what lies half-way between two grey levels may be
        # rounded the other way)
        else:
            (y0, y1), (x0, x1) = (
                vertical.to_image((top, bottom)),
                horizontal.to_image((left, right)),
            )
            box = (x0, y0, min(x1, image.width), min(y1, image.height))
            part = self._resized(image, (right - left, bottom - top), box)
        out = np.full(self.shape, self.pad_color, self.dtype)
        out[top:bottom, left:right] = np.asarray(part).reshape(
            bottom - top, right - left, self.channels
        )
        return out

    def _resized(
        self,
        image: Croppable,
        size: tuple[int, int],
        box: tuple[float, float, float, float] | None = None,
    ) -> Image.Image:
        """`Image.resize` of this box in two steps, first along the rows.

        Pillow rounds between its two steps, and which side comes first depends on its version and
        the image; the exported graph knows one order. The image is taken in bands of rows, so that
        no second copy of a large one is ever in memory.
        """
        resampling, (x0, y0, x1, y1) = (
            RESAMPLING[self.interpolation],
            box or (0, 0, image.width, image.height),
        )
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
        """An image that becomes exactly these pixels: one of `pixels`, which is scaled and cut no
        further. For `crop` it stands in the middle of a box of `resize`, whose border is not seen.

        An exported graph takes whole images; handed such a one, all it does is normalise it.
        """
        if self.fit != "crop":
            return pixels
        vertical, horizontal = self.axes(*self.resize)
        out = np.zeros((*self.resize, self.channels), self.dtype)
        out[
            vertical.offset : vertical.offset + vertical.size,
            horizontal.offset : horizontal.offset + horizontal.size,
        ] = pixels
        return out

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """(N, H, W, C) stored pixels to (N, C, H, W) float32 as the network takes it."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        scaled = (pixels.astype(np.float32) / self.value_range - mean) / std
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    def open(self, source: Path | str | bytes, short_side: int | None = None) -> Image.Image:
        """`open_image` with this value's channels and ranges."""
        return open_image(source, self.channels, self.value_range, short_side, self.deep_range)[0]


def upgrade(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata of a file of an older format with what the present one has besides.

    Format 1 knew no `deep_range`: images with more than 8 bits were read as 0 to 65535.
    """
    if metadata["format"] >= 2 or not isinstance(metadata.get("preprocessing"), dict):
        return metadata
    return {**metadata, "preprocessing": {"deep_range": list(FULL), **metadata["preprocessing"]}}


def open_image(
    source: Path | str | bytes,
    channels: int = 3,
    value_range: int = 255,
    short_side: int | None = None,
    deep_range: Range | None = None,
) -> tuple[Image.Image, list[str], tuple[int, int]]:
    """Decodes an image: upright, first frame, in the mode asked for.

    Args:
        source: A file, or its content.
        channels: 3 for RGB, 1 for grayscale. Transparency is laid on white.
        value_range: 255, or 65535 to keep 16-bit grayscale as it is.
        short_side: JPEG files may be decoded at a half, quarter or eighth of their size (draft
            mode) as long as the shorter side stays at least this long; None decodes them whole.
        deep_range: The values that become black and white where there are more than 8 bits; None:
            judged by the image's own values.

    Returns:
        The image, what had to be done to it in words ("turned upright (EXIF)", ...), and its
        width and height in the file.

    Raises:
        BadImage: The file is missing, not an image, broken or too large.
    """
    with reading(source) as image:
        image, notes, size = _decode(image, short_side)
        return to_mode(image, channels, value_range, notes, deep_range), notes, size


def open_raw(
    source: Path | str | bytes, short_side: int | None = None
) -> tuple[Image.Image, list[str], tuple[int, int]]:
    """`open_image` in the mode of the file: the values of images with more than 8 bits are as they
    were stored.

    Raises:
        BadImage: As `open_image`.
    """
    with reading(source) as image:
        return _decode(image, short_side)


@contextmanager
def reading(source: Path | str | bytes) -> Iterator[Image.Image]:
    """An image of which the header is read and nothing decoded yet; whatever cannot be read here or
    within is a `BadImage`."""
    try:
        if not isinstance(source, bytes) and Path(source).exists() and not Path(source).is_file():
            # opening a pipe may never end
            raise BadImage("a folder, a pipe or a device, not a file")
        with _opened(source) as image:
            yield image
    except BadImage:
        raise
    except MemoryError:
        raise BadImage("not enough memory to decode it") from None
    except UNREADABLE as error:
        raise BadImage(_reason(error, source)) from None


def _opened(source: Path | str | bytes) -> Image.Image:
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        if not is_heic(_head(source)):
            raise
    if not heic_installed():
        raise BadImage(f"HEIC: to read it, {HEIC_CURE}; or convert it to JPEG")
    import pillow_heif  # once an image needs it: it is an extra, and no small one

    pillow_heif.register_heif_opener()
    return Image.open(file, formats=("HEIF",))


def _head(source: Path | str | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:HEAD]
    with Path(source).open("rb") as file:
        return file.read(HEAD)


def _decode(
    image: Image.Image, short_side: int | None
) -> tuple[Image.Image, list[str], tuple[int, int]]:
    size, notes = image.size, look(image)
    if short_side and isinstance(image, JpegImageFile):
        image.draft(None, (size[0] * short_side // min(size), size[1] * short_side // min(size)))
    image.load()
    return ImageOps.exif_transpose(image), notes, size


def look(image: Image.Image) -> list[str]:
    """Remarks on an image that is not decoded yet.

    Raises:
        BadImage: It is of a kind that is not read.
    """
    if image.width * image.height > MAX_PIXELS:
        raise BadImage(
            f"{image.width} x {image.height} pixels, more than the limit of {MAX_PIXELS:,}; scale"
            " it down first"
        )
    if image.format == "GIF":
        raise BadImage("GIF: not read as a photograph; convert it to PNG or JPEG")
    notes = ["several frames: the first is used"] if getattr(image, "n_frames", 1) > 1 else []
    if image.getexif().get(0x0112) in range(
        2, 9
    ):  # before `load`, which turns a TIFF and forgets it
        notes.append("turned upright (EXIF)")
    return notes


def to_mode(
    image: Image.Image,
    channels: int,
    value_range: int,
    notes: list[str],
    deep_range: Range | None = None,
) -> Image.Image:
    """Any mode Pillow knows to RGB, L or I;16, with a note on what is not obvious."""
    if is_deep(image):
        return _from_deep(image, channels, value_range, notes, deep_range)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            notes.append("transparency laid on white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "CMYK":
        notes.append("CMYK turned into RGB")
    image = image.convert("RGB" if channels == 3 else "L")
    if value_range == 65535:
        return Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    return image


def is_deep(image: Image.Image) -> bool:
    """Whether an image has more than 8 bits a value."""
    return image.mode.startswith(("I", "F"))


def _from_deep(
    image: Image.Image, channels: int, value_range: int, notes: list[str], deep_range: Range | None
) -> Image.Image:
    values = np.asarray(image)
    try:
        levels = measure(values)
    except NoValues as error:
        raise BadImage(str(error)) from None
    notes += remarks(levels, deep_range, value_range)
    scaled = Image.fromarray(scale(values, deep_range or judge([levels]), value_range))
    return scaled if value_range == 65535 else scaled.convert("RGB" if channels == 3 else "L")


def _reason(error: Exception, source: Path | str | bytes) -> str:
    """Why an image cannot be read, without what differs from file to file: equal reasons are
    counted together."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, UnidentifiedImageError):
        empty = not (source if isinstance(source, bytes) else Path(source).stat().st_size)
        return "empty file" if empty else f"not readable as an image (none of {', '.join(FORMATS)})"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return f"too large ({text.partition(',')[0]}); scale it down first"
    words = re.split(r" \(|: |\n", text)[0]
    return f"not readable as an image ({words})"
