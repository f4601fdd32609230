"""What the networks of the table expect as input, where their weights do not say it."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resnets.models.rows import ROWS
from resnets.models.zoo import Network
from resnets.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

MOST_PIXELS = 10_000  # of a side
CHANGES = ("size", "mean", "std", "interpolation", "fit", "crop")  # what a person can set
IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CIFAR = ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))
KINETICS = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))


@dataclass(frozen=True)
class Expected:
    """What most published weights of a family were made for.

    Args:
        crop: Part of the scaled image that is kept.
        interpolation: `bilinear` or `bicubic`.
        values: Mean and standard deviation.
        size: Side of the input; by default that of the row.
    """

    crop: float
    interpolation: str
    values: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    size: int | None = None


SMALL = Expected(1.0, "bilinear", CIFAR, 32)  # networks whose stem keeps the size
BILINEAR = Expected(0.875, "bilinear")  # those of torchvision, and some more
# The first pattern that fits the name of a row; what timm 1.0.31 and torchvision 0.29.1 publish
EXPECTED = {
    "resnetv2_152x4_bit": Expected(1.0, "bilinear", HALF, 480),
    "resnetv2_*_bit": Expected(1.0, "bilinear", HALF, 448),
    "resnetv2_*": Expected(0.95, "bicubic", HALF),
    "vit_*": Expected(0.9, "bicubic", HALF),
    "resnetrs*": Expected(1.0, "bicubic"),
    **dict.fromkeys(("r3d_*", "mc3_*", "r2plus1d_*"), Expected(0.875, "bilinear", KINETICS)),
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), BILINEAR),
    **dict.fromkeys(("resnext50_32x4d", "resnext101_*", "wide_resnet*", "densenet???"), BILINEAR),
    **dict.fromkeys(("res2ne*", "resnest14d", "resnest26d", "resnest50d", "resnest101e"), BILINEAR),
    "*": Expected(0.875, "bicubic"),
}


def assumed_preprocessing(network: Network) -> Preprocessing:
    """What weights of a network most probably expect: the habit of those who published such.

    Args:
        network: With its changes: a stem for small images decides more than the name.
    """
    if getattr(network.setting, "stem", None) == "cifar":
        found = SMALL
    else:
        pattern = next(one for one in EXPECTED if fnmatch.fnmatchcase(network.name, one))
        found = EXPECTED[pattern]
    # a Transformer has its own
    side = getattr(network.setting, "size", None) or found.size or ROWS[network.name].size
    mean, std = (for_channels(one, network.in_channels) for one in found.values)
    return Preprocessing.square(
        side,
        found.crop,
        channels=network.in_channels,
        interpolation=found.interpolation,
        mean=mean,
        std=std,
    )


def for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Mean or standard deviation for grey images: the average of the three."""
    return (round(sum(values) / 3, 4),) if channels == 1 and len(values) == 3 else values


def change_preprocessing(base: Preprocessing, changes: Mapping[str, Any]) -> Preprocessing:
    """Another preprocessing, with what a person said.

    Args:
        base: All that is not said.
        changes: Some of `CHANGES`: `size` in pixels, `mean` and `std` as `"0.5,0.5,0.5"`, `crop` as
            the part of the scaled image that is kept.

    Raises:
        ValueError: A value that is not allowed.
    """
    assert set(changes) <= set(CHANGES)
    values = {key: changes[key] for key in ("interpolation", "fit") if key in changes}
    for key in {"mean", "std"} & set(changes):
        values[key] = _numbers(key, changes[key], base.channels)
    if values.get("fit", base.fit) == "pad" and {"fit", "mean"} & set(changes):
        mean = values.get("mean", base.mean)
        grey = round(sum(mean) / len(mean) * base.value_range)
        values["pad_color"] = min(max(grey, 0), base.value_range)
    if {"size", "crop"} & set(changes):
        side = changes.get("size", base.size[0])
        crop = changes.get("crop", base.size[0] / base.resize[0])
        if not isinstance(side, int) or not 1 <= side <= MOST_PIXELS:
            raise ValueError(f"size is {side!r}; allowed: 1 to {MOST_PIXELS:,} pixels")
        if not isinstance(crop, int | float) or not 0.05 <= crop <= 1:
            raise ValueError(f"crop is {crop!r}; allowed: 0.05 to 1, the fraction that is kept")
        values |= {"size": (side, side), "resize": (int(side / crop + 1e-9),) * 2}
    return dataclasses.replace(base, **values)


def _numbers(key: str, text: Any, channels: int) -> tuple[float, ...]:
    try:
        found = tuple(float(one) for one in str(text).replace(",", " ").split())
    except ValueError:
        found = ()
    if len(found) == 1:
        found *= channels
    if len(found) != channels:
        raise ValueError(f"{key} is {text!r}; {channels} numbers expected, as in 0.5,0.5,0.5")
    return found


def describe_preprocessing(preprocessing: Preprocessing) -> str:
    """A preprocessing as a short text: `224 x 224 (crop from 256), bilinear, mean ..., std ...`."""
    one = preprocessing
    box = f" from {one.resize[0]}" if one.fit == "crop" and one.resize != one.size else ""
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (one.mean, one.std))
    size = f"{one.size[0]} x {one.size[1]}"
    return f"{size} ({one.fit}{box}), {one.interpolation}, mean {mean}, std {std}"
