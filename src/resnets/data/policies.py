"""Changes of colour and shape after cropping, and erased rectangles: torchvision's operations, with
draws that are handed in, so that threads, workers and resumed runs cannot matter."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from resnets.preprocessing import Preprocessing

DRAWS = 8  # numbers that a policy takes for an image
ERASING = 5  # numbers that erasing takes
LEVELS = 30  # the highest magnitude
SIDEWAYS = 150 / 331  # of a side that RandAugment moves an image at most
JITTER = (0.4, 0.4, 0.4, 0.1)  # of brightness, contrast, saturation and hue
AREA, RATIO = (0.02, 0.33), (0.3, 3.3)  # of what is erased, as in torchvision


class Row(NamedTuple):
    """An operation at its strongest: how far from the image as it is, and whether in both
    directions."""

    most: float
    signed: bool = True


def _shear(image: Tensor, value: float, fill: float, down: bool) -> Tensor:
    angle = math.degrees(math.atan(value))
    shear = [0.0, angle] if down else [angle, 0.0]
    return F.affine(image, 0.0, [0, 0], 1.0, shear, fill=[fill], center=[0, 0])


def _translate(image: Tensor, value: float, fill: float, down: bool) -> Tensor:
    """By so many pixels."""
    moved = [0, int(value)] if down else [int(value), 0]
    return F.affine(image, 0.0, moved, 1.0, [0.0, 0.0], fill=[fill])


# Images (..., C, H, W) uint8, how strong, and the colour of what comes in from outside
Operation = Callable[[Tensor, float, float], Tensor]
OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, value, fill: image,
    "shear_x": partial(_shear, down=False),
    "shear_y": partial(_shear, down=True),
    "translate_x": partial(_translate, down=False),
    "translate_y": partial(_translate, down=True),
    "rotate": lambda image, value, fill: F.rotate(image, value, fill=[fill]),
    "brightness": lambda image, value, fill: F.adjust_brightness(image, 1 + value),
    "saturation": lambda image, value, fill: F.adjust_saturation(image, 1 + value),
    "contrast": lambda image, value, fill: F.adjust_contrast(image, 1 + value),
    "sharpness": lambda image, value, fill: F.adjust_sharpness(image, 1 + value),
    "posterize": lambda image, value, fill: F.posterize(image, 8 - round(value)),
    "solarize": lambda image, value, fill: F.solarize(image, 255 * (1 - value)),
    "autocontrast": lambda image, value, fill: F.autocontrast(image),
    "equalize": lambda image, value, fill: F.equalize(image),
}
# RandAugment (Cubuk et al. 2020, arXiv:1909.13719), moves in parts of a side; TrivialAugmentWide
# (Müller and Hutter 2021, arXiv:2103.10158, table 2), in pixels
_PLAIN = {"autocontrast": Row(0, False), "equalize": Row(0, False)}
_COLOURS = ("brightness", "saturation", "contrast", "sharpness")
RAND = {
    "identity": Row(0, False),
    **dict.fromkeys(("shear_x", "shear_y"), Row(0.3)),
    **dict.fromkeys(("translate_x", "translate_y"), Row(SIDEWAYS)),
    "rotate": Row(30),
    **dict.fromkeys(_COLOURS, Row(0.9)),
    "posterize": Row(4, False),
    "solarize": Row(1, False),
    **_PLAIN,
}
TRIVIAL = {
    "identity": Row(0, False),
    **dict.fromkeys(("shear_x", "shear_y"), Row(0.99)),
    **dict.fromkeys(("translate_x", "translate_y"), Row(32)),
    "rotate": Row(135),
    **dict.fromkeys(_COLOURS, Row(0.99)),
    "posterize": Row(6, False),
    "solarize": Row(1, False),
    **_PLAIN,
}


def apply(
    image: Tensor, space: dict[str, Row], draws: tuple[float, float], level: int, fill: float
) -> Tensor:
    """One operation on an image (..., C, H, W) uint8: which one, and its direction, by two draws;
    its strength by a level, 0 to 30."""
    name = list(space)[int(draws[0] * len(space))]
    row = space[name]
    value = row.most * level / LEVELS
    if name.startswith("translate") and space is RAND:
        value *= image.shape[-1 if name.endswith("x") else -2]
    return OPERATIONS[name](image, -value if row.signed and draws[1] < 0.5 else value, fill)


def _rand(image: Tensor, draws: list[float], level: int, fill: float) -> Tensor:
    """Two operations of one strength."""
    first = apply(image, RAND, (draws[0], draws[1]), level, fill)
    return apply(first, RAND, (draws[2], draws[3]), level, fill)


def _trivial(image: Tensor, draws: list[float], level: int, fill: float) -> Tensor:
    """One operation of any strength."""
    drawn = int(draws[2] * (LEVELS + 1))
    return apply(image, TRIVIAL, (draws[0], draws[1]), drawn, fill)


def _colour(image: Tensor, draws: list[float], level: int, fill: float) -> Tensor:
    """Brightness, contrast, saturation and hue, in any order: of (..., C, H, W) from 0 to 1."""
    adjust = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    for number in np.argsort(draws[4:8]):
        shift = JITTER[number] * (2 * draws[number] - 1)
        image = adjust[number](image, shift if number == 3 else 1 + shift)
    return image


POLICIES = {"rand": _rand, "trivial": _trivial, "colour": _colour}
NAMES = ("none", *POLICIES)


def change_images(
    images: Tensor, name: str, draws: np.ndarray, level: int, preprocessing: Preprocessing
) -> Tensor:
    """Images (N, C, H, W), or clips (N, C, T, H, W), in grey levels, in place; those of a clip all
    alike.

    Args:
        images: float32.
        name: One of `NAMES`.
        draws: (N, DRAWS) from 0 to 1.
        level: Strength of RandAugment, 0 to 30.
        preprocessing: Of the network.
    """
    if name == "none":
        return images
    change, fill, most = POLICIES[name], float(preprocessing.pad_color), preprocessing.value_range
    clips = images.ndim == 5
    for image, drawn in zip(images, draws.tolist(), strict=True):
        stills = image.transpose(0, 1) if clips else image
        if name == "colour":
            changed = change(stills / most, drawn, level, fill) * most
        else:
            changed = change(stills.round().clamp(0, 255).to(torch.uint8), drawn, level, fill)
        stills.copy_(changed)
    return images


def erase(images: Tensor, probability: float, draws: np.ndarray) -> Tensor:
    """Sets a rectangle of some images to 0, the mean of what a network takes, in place (Zhong et
    al. 2020, arXiv:1708.04896).

    Args:
        images: Normalised (N, ..., H, W).
        probability: Of each.
        draws: (N, ERASING) from 0 to 1.
    """
    height, width = images.shape[-2:]
    for image, (drawn, area, shape, top, left) in zip(images, draws.tolist(), strict=True):
        if drawn < probability:
            whole = height * width * (AREA[0] + (AREA[1] - AREA[0]) * area)
            ratio = RATIO[0] * (RATIO[1] / RATIO[0]) ** shape
            tall = min(height, max(1, round(math.sqrt(whole * ratio))))
            wide = min(width, max(1, round(math.sqrt(whole / ratio))))
            y, x = int(top * (height - tall + 1)), int(left * (width - wide + 1))
            image[..., y : y + tall, x : x + wide] = 0
    return images
