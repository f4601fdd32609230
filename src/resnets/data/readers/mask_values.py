"""The values in a mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from resnets.images import BadImage, reading

MOST = 1 << 16  # colours of one mask: more are no classes
LEVELS = ("1", "L", "LA", "La", "P", "PA")
GREY = 0x010101  # times a level: the colour that it is as red, green and blue


@dataclass(frozen=True)
class Content:
    """What one mask holds.

    Args:
        values: Of its pixels: indices or levels, or of a mask in colour red * 65536 + green * 256 +
            blue.
        is_colour: Whether they are colours.
        palette: Of a mask of indices, the colour that each is shown in.
        is_lossy: Whether its values were changed by compression.
        error: Why it cannot be read.
    """

    values: frozenset[int] = frozenset()
    is_colour: bool = False
    palette: tuple[int, ...] = ()
    is_lossy: bool = False
    error: str = ""

    def shown(self, value: int) -> str:
        """A value for people."""
        return f"#{value:06x}" if self.is_colour else str(value)


def look_at_mask(path: Path) -> Content:
    """Decodes a mask and collects its values."""
    try:
        with reading(path) as image:
            if image.format == "JPEG":
                return Content(is_lossy=True)
            image.load()
            if image.mode.startswith(("I", "F")):
                values = np.unique(np.asarray(image))
                if not np.equal(values, values.astype(np.int64)).all():
                    raise BadImage("values that are not whole numbers")
                return Content(frozenset(map(int, values)))
            if image.mode in LEVELS:
                return Content(_levels(image), palette=_palette(image))
            return _colours(image)
    except BadImage as error:
        return Content(error=str(error))


def _levels(image: Image.Image) -> frozenset[int]:
    plain = image if image.mode in ("L", "P") else image.convert("P" if "P" in image.mode else "L")
    return frozenset(value for value, count in enumerate(plain.histogram()) if count)


def _palette(image: Image.Image) -> tuple[int, ...]:
    flat = image.getpalette("RGB") if image.mode == "P" else None
    return tuple(packed(*flat[i : i + 3]) for i in range(0, len(flat), 3)) if flat else ()


def packed(red: int, green: int, blue: int) -> int:
    """A colour as one number."""
    return (red << 16) | (green << 8) | blue


def _of(colour: object) -> int:
    assert isinstance(colour, tuple)
    return packed(*colour)


def _colours(image: Image.Image) -> Content:
    counted = image.convert("RGB").getcolors(MOST)
    if counted is None:
        raise BadImage(f"more than {MOST:,} colours: a photograph, no mask")
    return Content(frozenset(_of(colour) for _, colour in counted), is_colour=True)
