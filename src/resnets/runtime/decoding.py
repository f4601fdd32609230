"""Files to network input in bounded memory: what is decoded at once is budgeted, and of a large
image there is one copy, whatever its colours, transparency and orientation are.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from resnets.images import (
    MAX_PIXELS,
    ORIENTATION,
    BadImage,
    is_deep,
    look,
    reading,
    to_mode,
    upright_size,
)
from resnets.kinds.axis import Decoding
from resnets.preprocessing import Preprocessing

TOGETHER = 110_000_000  # bytes decoded at once: two photos of 12 megapixels
TRIM = 20_000_000  # bytes of an image after which memory is given back to the system
LARGEST = 740_000_000  # bytes of one image, which then is decoded alone
# Bytes a pixel at the peak of decoding, measured with Pillow 13: its own 4, and what the library of
# the format keeps beside them.
BYTES = {"PNG": 4, "BMP": 4, "PPM": 4, "JPEG": 4, "TIFF": 8, "AVIF": 10, "WEBP": 16, "JPEG2000": 25}
OTHER_FORMATS = 16
DEEP_16, DEEP = 10, 16  # images of 16 and of 32 bits a value, which are scaled to 8 bits as a whole
# Times the size to which the input is scaled, to which a JPEG file may be decoded: pixels move by
# less than 0.3 grey levels on average and 3 at most (tests/test_streams.py), at 1 by 0.7 and 7.
ROOM = 2
PROGRESSIVE = 12  # a JPEG file of several scans: all coefficients are kept until the last one


class Turn(NamedTuple):
    """How an image is made upright, and how places in the upright one are found in the file: the
    sides that are counted from the far end, then whether they change places."""

    method: Image.Transpose
    mirror_x: bool
    mirror_y: bool
    swap: bool


TURNS = {  # by EXIF orientation
    2: Turn(Image.Transpose.FLIP_LEFT_RIGHT, True, False, False),
    3: Turn(Image.Transpose.ROTATE_180, True, True, False),
    4: Turn(Image.Transpose.FLIP_TOP_BOTTOM, False, True, False),
    5: Turn(Image.Transpose.TRANSPOSE, False, False, True),
    6: Turn(Image.Transpose.ROTATE_270, True, False, True),
    7: Turn(Image.Transpose.TRANSVERSE, True, True, True),
    8: Turn(Image.Transpose.ROTATE_90, False, True, True),
}


class Budget:
    """Memory that several threads share.

    Args:
        total: What may be taken together. Whoever wants more gets it when nobody else has any.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._returned = threading.Condition()
        self._queue = threading.Lock()  # or a large one would wait for ever behind small ones

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Waits for its turn, and for enough to be free."""
        amount = min(amount, self.total)
        with self._queue, self._returned:
            self._returned.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._returned:
                self._free += amount
                self._returned.notify_all()

    def reset(self) -> None:
        """Everything is free: after a fork, whoever had some of it is not in the child."""
        self.__init__(self.total)  # type: ignore[misc]


DECODING = Budget(TOGETHER)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=DECODING.reset)


class Upright:
    """A decoded image that is turned upright and brought into a network's mode where it is cut.

    Args:
        image: Of Pillow, in any mode; decoded here, if it is not yet.
        preprocessing: Says which channels and range.
        stored: Width and height in its file, where it is decoded at a smaller scale.
    """

    def __init__(
        self,
        image: Image.Image,
        preprocessing: Preprocessing,
        stored: tuple[int, int] | None = None,
    ) -> None:
        image.load()
        self.notes: list[str] = []
        self._preprocessing = preprocessing
        self._turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
        self._ready = is_deep(image)  # its values are judged together, not band by band
        self._image = self._converted(image, self.notes) if self._ready else image
        swap = self._turn is not None and self._turn.swap
        self.width, self.height = image.size[::-1] if swap else image.size
        self.decoding = self._how(stored or image.size, swap)

    def crop(self, box: tuple[int, int, int, int]) -> Image.Image:
        """What lies between left, top, right and bottom of the upright image; what had to be done
        to it is noted."""
        part = self._image.crop(self._in_the_file(*box))
        if self._turn:
            part = part.transpose(self._turn.method)
        if self._ready:
            return part
        notes: list[str] = []
        part = self._converted(part, notes)
        self.notes += [note for note in notes if note not in self.notes]
        return part

    def _how(self, stored: tuple[int, int], swap: bool) -> Decoding:
        width, height = stored[::-1] if swap else stored
        scale = round(width / self.width)
        mirror_x, mirror_y = (self._turn.mirror_x, self._turn.mirror_y) if self._turn else (0, 0)
        corner = (
            mirror_x * (self.width - width / scale),
            mirror_y * (self.height - height / scale),
        )
        return Decoding((height, width), scale, corner)

    def _converted(self, image: Image.Image, notes: list[str]) -> Image.Image:
        wanted = self._preprocessing
        return to_mode(image, wanted.channels, wanted.value_range, notes, wanted.deep_range)

    def _in_the_file(
        self, left: int, top: int, right: int, bottom: int
    ) -> tuple[int, int, int, int]:
        if self._turn is None:
            return left, top, right, bottom
        if self._turn.mirror_x:
            left, right = self.width - right, self.width - left
        if self._turn.mirror_y:
            top, bottom = self.height - bottom, self.height - top
        return (top, left, bottom, right) if self._turn.swap else (left, top, right, bottom)


class Decoded(NamedTuple):
    """An image that was read for a network.

    Args:
        framed: (height, width, channels), which the graph scales no further
            (`Preprocessing.framed`).
        size: Height and width of the image itself, upright.
        notes: Remarks on how it was read.
    """

    framed: np.ndarray
    size: tuple[int, int]
    notes: list[str]


def read_input(
    source: Path | str | bytes, preprocessing: Preprocessing, exact: bool = False
) -> Decoded:
    """An image file, or its content, for a network; waits until there is memory for it.

    Args:
        source: The file, or its content.
        preprocessing: Of the network.
        exact: Whether it is decoded as it is stored, also where a smaller scale would do.

    Raises:
        BadImage: It cannot be read, or decoding it would take more than `LARGEST`.
    """
    with reading(source) as image:
        stored = image.size
        if not exact:
            reduce(image, preprocessing)
        needed = decoded_bytes(image, stored)
        if needed > LARGEST and image.width * image.height <= MAX_PIXELS:
            raise BadImage(
                f"{image.width} x {image.height} pixels of {image.format} take"
                f" {needed / 1e6:,.0f} MB to decode; allowed: {LARGEST / 1e6:,.0f} MB; scale it"
                " down first, or save it as an 8-bit PNG"
            )
        with DECODING.take(needed):
            notes = look(image)  # here: to find the EXIF of a PNG file, Pillow decodes all of it
            try:
                found = image_input(image, preprocessing, stored)
            finally:
                image.close()  # frees its memory before somebody else takes the budget
                if needed > TRIM:
                    _trim()
            return found._replace(notes=notes + found.notes)


def _trim() -> None:
    """Gives freed memory back to the system. The GNU library keeps it for the thread that had it,
    and the next large image may be decoded by the other one."""
    if sys.platform == "linux" and hasattr(ctypes.pythonapi, "malloc_trim"):
        ctypes.pythonapi.malloc_trim(0)


def image_input(
    image: Image.Image, preprocessing: Preprocessing, stored: tuple[int, int] | None = None
) -> Decoded:
    """The same of an image of Pillow; with the width and height that are stored in its file, where
    it is decoded at a smaller scale."""
    upright = Upright(image, preprocessing, stored)
    framed = preprocessing.framed(preprocessing.pixels(upright, upright.decoding))
    return Decoded(framed, upright.decoding.size, upright.notes)


def reduce(image: Image.Image, preprocessing: Preprocessing) -> None:
    """Lets a JPEG file be decoded at a half, quarter or eighth of its size, which costs a fraction,
    as long as that is `ROOM` times the size to which the network's input is scaled."""
    if not isinstance(image, JpegImageFile):
        return
    stored, (width, height) = image.size, upright_size(image)
    high, wide = (ROOM * axis.resized for axis in preprocessing.axes(height, width))
    image.draft(None, (wide, high) if (width, height) == stored else (high, wide))


def decoded_bytes(image: Image.Image, stored: tuple[int, int] | None = None) -> int:
    """Memory that decoding an image takes at its peak; nothing but its header is looked at. With
    the width and height in its file, where it is decoded at a smaller scale."""
    each = BYTES.get(image.format or "", OTHER_FORMATS)
    pixels = image.width * image.height
    if image.format == "JPEG" and image.info.get("progressive"):
        # all coefficients, at any scale
        each, pixels = PROGRESSIVE, math.prod(stored or image.size)
    if is_deep(image):
        each = max(each, DEEP_16 if image.mode.startswith("I;16") else DEEP)
    return pixels * each
