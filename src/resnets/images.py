"""From the bytes of an image to its pixels, upright and in the mode asked for.

Whatever cannot be read is a `BadImage`, whose message is the reason. NumPy and Pillow only.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from resnets.deep import NoValues, judge, measure, remarks, scale
from resnets.listing import HEAD, HEIC_CURE, heic_installed, is_heic
from resnets.ranges import Range

# Pillow's own limit, 13,377 x 13,377: beyond it an image is refused before any of it is decoded
MAX_PIXELS = 178_956_970
TURNED = "turned upright (EXIF)"  # a remark
ORIENTATION = 0x0112  # the EXIF tag that says how an image is turned
# Not EPS: Pillow runs a program to read it. AVIF last: looking for it loads all other readers.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP", "AVIF")
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

# Remarks about odd EXIF, palettes and large images would tear up a progress bar. Here once, not
# around each call: `warnings.catch_warnings` changes the whole process and is not made for threads.
for _category in (UserWarning, Image.DecompressionBombWarning):
    warnings.filterwarnings("ignore", category=_category, module=r"PIL\.")


class BadImage(ValueError):
    """A file that cannot be read as an image; the message is the reason, fit for a table."""


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
        The image, what had to be done to it ("turned upright (EXIF)", ...), and the width and
        height of all of it, upright.

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
    whole = upright_size(image)
    if short_side and isinstance(image, JpegImageFile):
        image.draft(None, (size[0] * short_side // min(size), size[1] * short_side // min(size)))
    image.load()
    return ImageOps.exif_transpose(image), notes, whole


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an image once it is upright; nothing but its header is looked at."""
    on_its_side = image.getexif().get(ORIENTATION) in range(5, 9)
    return image.size[::-1] if on_its_side else image.size


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
    # Before `load`, which turns a TIFF and forgets it
    if image.getexif().get(ORIENTATION) in range(2, 9):
        notes.append(TURNED)
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
    reason = re.split(r" \(|: |\n", text)[0]
    return f"not readable as an image ({reason})"
