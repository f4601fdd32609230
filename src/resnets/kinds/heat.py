"""A class activation map laid over its image."""

from __future__ import annotations

import numpy as np
from PIL import Image

# Nine equal steps along matplotlib's `inferno`: lightness rises evenly, so more evidence always
# looks like more.
INFERNO = np.array(
    [
        (0, 0, 4),
        (31, 12, 72),
        (85, 15, 109),
        (136, 34, 106),
        (186, 54, 85),
        (227, 89, 51),
        (249, 140, 10),
        (249, 201, 50),
        (252, 255, 164),
    ]
)


def overlay(pixels: np.ndarray, heat: np.ndarray) -> Image.Image:
    """Lays a map of evidence over its image.

    The image turns gray and darker, so that all colour and light in the result mean evidence.

    Args:
        pixels: (H, W, C) of `Preprocessing.pixels`, C = 1 or 3.
        heat: (h, w), any real numbers. Only what speaks for the class (above 0) is shown, relative
            to its maximum.
    """
    gray = to_image(pixels).convert("L")
    if np.ndim(heat) != 2 or not np.isfinite(heat).all():
        raise ValueError(
            f"overlay: heat of shape {np.shape(heat)}; (h, w) finite numbers were expected"
        )
    evidence = np.maximum(np.asarray(heat, np.float32), 0)
    evidence = evidence / (evidence.max() or 1)
    smooth = np.asarray(Image.fromarray(evidence).resize(gray.size, Image.Resampling.BILINEAR))
    steps = np.linspace(0, 1, len(INFERNO))
    color = np.stack(
        [np.interp(smooth, steps, INFERNO[:, channel]) for channel in range(3)], axis=-1
    )
    weight = (0.25 + 0.45 * smooth)[..., None]
    blend = (1 - weight) * np.asarray(gray, np.float32)[..., None] + weight * color
    return Image.fromarray(np.round(np.clip(blend, 0, 255)).astype(np.uint8))


def to_image(pixels: np.ndarray) -> Image.Image:
    """(H, W, 1 or 3) stored pixels as an image of 8 bits."""
    if (
        pixels.ndim != 3
        or pixels.shape[2] not in (1, 3)
        or pixels.dtype not in (np.uint8, np.uint16)
    ):
        raise ValueError(
            f"pixels of shape {pixels.shape} and type {pixels.dtype}; (H, W, 1 or 3) uint8 or"
            " uint16 were expected"
        )
    eight = pixels if pixels.dtype == np.uint8 else np.round(pixels / 257).astype(np.uint8)
    return Image.fromarray(eight[..., 0] if eight.shape[2] == 1 else eight)
