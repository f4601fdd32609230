"""Predictions as images: class activation maps, what is drawn on an image or a video, masks."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnets.images import open_image
from resnets.kinds.heat import overlay, to_image
from resnets.kinds.prediction import Prediction

SHOWN = 150  # milliseconds of an image in an animation
VIDEO_SIDE = 480  # pixels of the longer side of a drawn video
JPEG_SIDE = 65_500  # pixels; what is longer does not fit into a JPEG


def thumbnail(pixels: np.ndarray, side: int = 96) -> bytes:
    """A small JPEG of (H, W, C) pixels: the longer side is `side` at the most, the shape is kept,
    nothing is enlarged. Of a clip (T, H, W, C) an animation, as WebP."""
    images = [to_image(one) for one in (pixels if pixels.ndim == 4 else pixels[None])]
    for image in images:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    if len(images) > 1:
        return _animation(images, 60)
    stream = io.BytesIO()
    images[0].save(stream, "JPEG", quality=80, optimize=True)
    return stream.getvalue()


def _animation(images: list[Image.Image], quality: int) -> bytes:
    """Images of one size, one after the other, as WebP."""
    stream = io.BytesIO()
    options: dict[str, Any] = {"duration": SHOWN, "loop": 0, "quality": quality}
    images[0].save(stream, "WEBP", save_all=True, append_images=images[1:], **options)
    return stream.getvalue()


def draw_map(file: Path, heat: np.ndarray, folder: Path, side: int = 512) -> Path:
    """Writes the map of one image file as FOLDER/NAME.heat.jpg, scaled to at most `side` pixels;
    nothing is overwritten.

    Args:
        file: The image.
        heat: (h, w), the evidence over the input; shown over the whole image, so its place is
            rough where the borders were cut.
        folder: Where to.
    """
    image = open_image(file, short_side=side)[0]
    image.thumbnail((side, side))
    content = io.BytesIO()
    overlay(np.asarray(image), heat).save(content, "JPEG", quality=90)
    return _write_new(folder, file.name, ".heat", ".jpg", content.getvalue())


def draw_prediction(prediction: Prediction, folder: Path) -> Path:
    """Writes an image file with its prediction drawn on it, whole, as FOLDER/NAME.drawn.jpg, or
    .png where it is too long for a JPEG; nothing is overwritten.

    Raises:
        BadImage: The file cannot be read any more.
    """
    file, content = Path(prediction.file), io.BytesIO()
    drawn = prediction.drawn(open_image(file)[0])
    if max(drawn.size) > JPEG_SIDE:
        drawn.save(content, "PNG")
        return _write_new(folder, file.name, ".drawn", ".png", content.getvalue())
    drawn.save(content, "JPEG", quality=92)
    return _write_new(folder, file.name, ".drawn", ".jpg", content.getvalue())


def draw_video(
    prediction: Prediction, images: Iterable[tuple[float, Image.Image]], folder: Path
) -> Path:
    """Writes images of a video, each with what is said of its moment drawn on it, as an animation,
    FOLDER/NAME.drawn.webp; nothing is overwritten.

    Args:
        prediction: For the video.
        images: RGB, each with its second; at least one.
        folder: Where to.
    """
    drawn = []
    for second, image in images:
        small = image.copy()
        small.thumbnail((VIDEO_SIDE, VIDEO_SIDE))
        drawn.append(prediction.at(second).drawn(small))
    name = Path(prediction.file).name
    return _write_new(folder, name, ".drawn", ".webp", _animation(drawn, 80))


def write_mask(prediction: Prediction, folder: Path) -> Path:
    """Writes the mask of an image as FOLDER/NAME.mask.png; nothing is overwritten."""
    image, content = prediction.indexed(), io.BytesIO()
    assert image is not None
    image.save(content, "PNG", optimize=True)
    return _write_new(folder, Path(prediction.file).name, ".mask", ".png", content.getvalue())


def _write_new(folder: Path, name: str, kind: str, suffix: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    name = os.fsdecode(os.fsencode(name)[:200])  # file systems end at 255 bytes
    for number in itertools.count(1):
        target = folder / f"{name}{kind}{'' if number == 1 else f'.{number}'}{suffix}"
        try:
            with target.open("xb") as written:
                written.write(content)
            break
        except FileExistsError:
            continue
    return target
