"""timm's description of published weights, the config.json beside them: what of it this package can
do, and what is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resnets.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

MOST_CLASSES, MOST_PIXELS = 1_000_000, 10_000  # what is more is no description of a network
FITS = {"center": "crop", "squash": "stretch", "border": "pad"}  # crop_mode to fit


def read_config(config: Any) -> tuple[list[str] | None, Preprocessing]:
    """Names of classes, where they are known, and preprocessing from a config.json of the hub.

    Raises:
        ValueError: Something in it is not what it should be, or cannot be represented.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"a JSON object was expected, got {config!r:.60}")
    count, labels = config.get("num_classes") or 0, config.get("label_names") or []
    if not isinstance(count, int) or not 0 <= count <= MOST_CLASSES:
        raise ValueError(f"num_classes is {count!r:.60}; allowed: 0 to {MOST_CLASSES:,}")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"label_names is {labels!r:.60}; a list of names was expected")
    known = count and count in (1000, len(labels))
    names = (labels or [""] * count) if known else None
    return names, timm_preprocessing(config.get("pretrained_cfg", config))


def timm_preprocessing(config: Any) -> Preprocessing:
    """How images become input, as timm does it for these weights when it evaluates them; to the bit
    but for `border`, where timm rounds the scaled side and `pad` rounds it down.

    Raises:
        ValueError: A value that is unknown, or that `Preprocessing` cannot represent; by name.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"pretrained_cfg is {config!r:.60}; a JSON object was expected")
    given = {key: value for key, value in config.items() if value is not None}
    size, mean = _size(given), _three(given, "mean", IMAGENET_MEAN)
    mode, scaled = given.get("crop_mode", "center"), _scaled(given, size)
    fill = {round(255 * value) for value in mean}
    if mode == "border" and len(fill) > 1:
        raise ValueError(
            f"crop_mode is {mode!r} with mean {mean} as its color; allowed: a grey one"
        )
    return Preprocessing(
        size,
        scaled,
        fit=FITS[mode],
        pad_color=fill.pop() if mode == "border" else 0,
        mean=mean,
        std=_three(given, "std", IMAGENET_STD),
        interpolation=given.get("interpolation", "bicubic"),
    )


def _three(
    given: Mapping[str, Any], key: str, default: Sequence[float], kind: Any = int | float
) -> tuple[Any, Any, Any]:
    value = given.get(key, default)
    if (
        not isinstance(value, list | tuple)
        or len(value) != 3
        or any(not isinstance(one, kind) or isinstance(one, bool) for one in value)
    ):
        raise ValueError(f"{key} is {value!r:.60}; three numbers were expected")
    return value[0], value[1], value[2]


def _size(given: Mapping[str, Any]) -> tuple[int, int]:
    trained = _three(given, "input_size", (3, 224, 224), int)
    tested = _three(given, "test_input_size", trained, int)
    if given.get("fixed_input_size") and tested != trained:
        raise ValueError(f"test_input_size is {tested}, but fixed_input_size: allowed: {trained}")
    channels, height, width = tested
    if channels != 3 or not all(1 <= side <= MOST_PIXELS for side in (height, width)):
        raise ValueError(
            f"input_size is {tested}; allowed: 3 channels, sides up to {MOST_PIXELS:,}"
        )
    return height, width


def _scaled(given: Mapping[str, Any], size: tuple[int, int]) -> tuple[int, int]:
    """What the image is scaled to before `size` is cut from it."""
    key = "test_crop_pct" if given.get("test_crop_pct") else "crop_pct"
    crop, mode = given.get(key) or 0.875, given.get("crop_mode", "center")
    if not isinstance(crop, int | float) or isinstance(crop, bool) or not 0.01 <= crop <= 100:
        raise ValueError(f"{key} is {crop!r:.60}; allowed: 0.01 to 1")
    if not isinstance(mode, str) or mode not in FITS:
        raise ValueError(f"crop_mode is {mode!r:.60}; allowed: {', '.join(FITS)}")
    scaled = int(size[0] / crop), int(size[1] / crop)
    if mode == "center" and crop > 1:
        raise ValueError(
            f"{key} is {crop}: images would be scaled to {scaled[0]} pixels and get a black border"
            f" up to {size[0]}; allowed: up to 1"
        )
    if mode != "center" and scaled != size:
        raise ValueError(
            f"crop_mode is {mode!r} with {key} {crop}: it would also cut the border off; allowed: 1"
        )
    return scaled
