"""What a network starts from: its first weights, and the preprocessing that goes with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resnets.creation import imagenet_weights, other_weights, warn_of_look_alikes, weights_by_name
from resnets.downloads import Offline
from resnets.models import Network
from resnets.models.inputs import for_channels
from resnets.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from resnets.pretrained import Weights
from resnets.ranges import parse_range
from resnets.screen import Screen
from resnets.training.settings import TrainSettings

OFFLINE = "from scratch: offline"  # why there are no first weights
ALIKE = 1.2  # two shapes (height over width) that differ by less are much the same
STEP = 4  # pixels that the shorter side of the input is a multiple of: the finest maps fit


def first_weights(
    settings: TrainSettings, network: Network | None, screen: Screen
) -> tuple[Weights | None, str]:
    """What the network starts from, and a text on why."""
    choice = settings.weights
    network = network.for_images if network else None
    if choice == "none":
        return None, "from scratch, as asked"
    if choice == "given" or (network is None and choice == "auto"):
        return None, "as the module was given"
    if choice == "auto":
        assert network is not None
        try:
            return imagenet_weights(network, screen), ""
        except ValueError as error:
            known = other_weights(network)
            return None, f"from scratch: {error}" + (
                f"; there are others: --weights {known}" if known else ""
            )
        except Offline as error:
            screen.warn(
                f"FROM SCRATCH, without ImageNet weights: they could not be downloaded ({error})"
            )
            return None, OFFLINE
    weights = weights_by_name(choice, network, screen, "auto, none, given, ")
    if network is not None:
        warn_of_look_alikes(network, weights, screen)
    return weights, ""


def check_weights(choice: str) -> None:
    """Refuses what names no weights.

    Raises:
        ValueError: No such file.
    """
    named = choice in ("auto", "none", "given") or choice.startswith(("torchvision:", "timm:"))
    if not named and not Path(choice).exists():
        raise ValueError(
            f"weights={choice}: no such file; allowed: auto, none, given, torchvision:TAG,"
            " timm:NAME.TAG, or a file"
        )


def input_shape(side: int, fits: Sequence[str], sizes: np.ndarray) -> tuple[int, int]:
    """Height and width of the input.

    Args:
        side: The longer one, in pixels.
        fits: How images may be made to fit. Where none is cut, the input has the shape that most
            images have, so that little of it is padding; else it is square, as that of published
            weights.
        sizes: (n, 2) heights and widths of the training images.
    """
    if "crop" in fits:
        return side, side
    shapes = np.log(sizes[:, 0] / sizes[:, 1])
    middle = float(np.median(shapes))
    if (np.abs(shapes - middle) < math.log(ALIKE)).mean() < 0.5:
        return side, side
    shorter = max(STEP, round(side * math.exp(-abs(middle)) / STEP) * STEP)
    return (shorter, side) if middle < 0 else (side, shorter)


def make_preprocessing(
    settings: TrainSettings, weights: Weights | None, shape: tuple[int, int]
) -> Preprocessing:
    """The weights' own where they bring one; fit and channels as decided, input of this height and
    width."""
    assert settings.fit is not None
    base = weights.preprocessing if weights and weights.preprocessing else None
    crop = base.size[0] / base.resize[0] if base else 1.0 if settings.crop == "shift" else 0.875
    mean, std = (
        (base.mean, base.std)
        if base and base.channels == settings.channels
        else (IMAGENET_MEAN, IMAGENET_STD)
    )
    mean, std = (for_channels(values, settings.channels) for values in (mean, std))
    value_range = 255 if settings.bits == 8 else 65535
    pad = round(mean[0] * value_range) if settings.fit == "pad" else 0
    interpolation = base.interpolation if base else "bilinear"
    height, width = shape
    return Preprocessing(
        shape,
        (int(height / crop), int(width / crop)),
        channels=settings.channels,
        value_range=value_range,
        fit=settings.fit,
        pad_color=pad,
        interpolation=interpolation,
        mean=mean,
        std=std,
        deep_range=parse_range(settings.range) or (base.deep_range if base else None),
    )
