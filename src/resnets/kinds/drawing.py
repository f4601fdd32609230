"""Colours of classes, and boxes drawn on an image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
Drawn = tuple[tuple[float, float, float, float], int, str, float]  # box, class, name, score

# Okabe and Ito (2008), which people with any colour vision can tell apart; of black, white
COLORS: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (255, 255, 255),
)
GOLDEN_ANGLE = 0.381966  # of a circle: hues that never come close to an earlier one
SMALLEST_TEXT, LARGEST_TEXT = 9, 40  # pixels


def color_of(index: int) -> Color:
    """The colour of a class, by its position; the same in every drawing."""
    if index < len(COLORS):
        return COLORS[index]
    hue = index * GOLDEN_ANGLE % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55 + 0.4 * (index % 2), 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_boxes(image: Image.Image, things: Sequence[Drawn]) -> Image.Image:
    """A copy with boxes and their names; of what is not certain also the score.

    Args:
        image: RGB.
        things: Box in pixels (left, top, right, bottom), position of the class, its name, and the
            score; the last one comes on top.
    """
    drawn = image.copy()
    draw = ImageDraw.Draw(drawn)
    line = max(1, round(max(image.size) / 300))
    font = ImageFont.load_default(text_size(image))
    for (left, top, right, bottom), index, name, score in things:
        color = color_of(index)
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), None, color, line)
        text = name if score >= 1 else f"{name} {score:.2f}"
        write_label(draw, (left, top), text, color, font)
    return drawn


def write_lines(image: Image.Image, lines: Sequence[tuple[str, int]]) -> Image.Image:
    """A copy with lines of text in its upper left corner, each in the colour of a class; lines
    that there is no room for are left out.

    Args:
        image: RGB or grey.
        lines: Text, and the position of the class.
    """
    drawn = image.convert("RGB")
    draw, size = ImageDraw.Draw(drawn), text_size(drawn)
    font = ImageFont.load_default(size)
    for number, (text, index) in enumerate(lines):
        bottom = (number + 1) * (size + 6)
        if bottom <= drawn.height:
            write_label(draw, (2, bottom), text, color_of(index), font)
    return drawn


def text_size(image: Image.Image) -> int:
    """Height of text that can be read in an image, in pixels."""
    return min(LARGEST_TEXT, max(SMALLEST_TEXT, round(max(image.size) / 45)))


def write_label(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    color: Color,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    """Text on a plate of the colour of its class, above a place where there is room, else below."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font)
    width, height = right - left + 4, bottom - top + 4
    x, y = place
    y = y - height if y >= height else y
    draw.rectangle((x, y, x + width, y + height), color)
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
    draw.text((x + 2 - left, y + 2 - top), text, "black" if bright else "white", font)
