"""Golden images: a few images inside a file, with the outputs that the trained network gave for
them. Made for export, and looked at before they are believed."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from resnets.images import UNREADABLE, open_image
from resnets.kinds import Kind
from resnets.kinds.kind import Output
from resnets.kinds.prediction import Outputs
from resnets.preprocessing import Preprocessing
from resnets.ranges import FULL

LONGEST_SIDE = 4096  # of the input and of golden images, in pixels
MOST_LISTED = 4096  # numbers of an array that is written as a list; larger ones are base64
LARGEST = 1e6  # of a number; places in an image are far below it
# of the numbers in base64, little-endian
DTYPES = ("float16", "float32", "uint8", "int32", "int64")


class Golden(NamedTuple):
    """An image (height, width, channels), or a clip (T, height, width, channels), and the outputs
    for it, as for a batch of one."""

    image: np.ndarray
    outputs: Outputs


def whole(image: Image.Image) -> np.ndarray:
    """An image of `open_image` as the graph takes it: (height, width, channels) in its own type
    and size."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def to_image(array: np.ndarray) -> Image.Image:
    """The inverse of `whole`: an image of Pillow from (height, width, channels)."""
    return Image.fromarray(array if array.shape[2] == 3 else array[:, :, 0])


def write_golden(kind: Kind, images: Sequence[Image.Image], outputs: Outputs) -> dict[str, Any]:
    """An image, or those of a clip, and the outputs for it, as for a batch of one, in JSON."""
    stored = {name: outputs[name] for name in _stored(kind) if name in outputs}
    return {
        "png": [base64.b64encode(_png(image)).decode() for image in images],
        "outputs": {name: _encode(array[0]) for name, array in stored.items()},
    }


def _png(image: Image.Image) -> bytes:
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True)
    return png.getvalue()


def check_golden(
    kind: Kind, entry: Any, classes: Sequence[str], value: Preprocessing, frames: int = 1
) -> None:
    """Looks at everything in an entry of a file, which has so many images.

    Raises:
        ValueError, KeyError, TypeError: It is not what `write_golden` gives.
    """
    pngs = entry["png"]
    several = isinstance(pngs, list) and len(pngs) == frames
    if not several or not all(isinstance(png, str) for png in pngs):
        what = "one text" if frames == 1 else f"{frames} texts"
        raise ValueError(f"wanted golden: png as a list of {what}")
    if not isinstance(entry["outputs"], dict):
        raise ValueError("wanted golden: outputs as a JSON object")
    for name, output in _stored(kind).items():
        if output.always or name in entry["outputs"]:
            _check_array(name, entry["outputs"][name], output, len(classes))
    sizes = {_check_png(base64.b64decode(png, validate=True), value) for png in pngs}
    if len(sizes) > 1:
        raise ValueError("wanted golden: images of one size")


def _check_png(content: bytes, preprocessing: Preprocessing) -> tuple[int, int]:
    """The size of an image that can be read.

    Raises:
        ValueError: It is too large, or none.
    """
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            size = image.size
    except UNREADABLE:
        raise ValueError("golden: an image that cannot be read") from None
    if max(size) > LONGEST_SIDE:
        raise ValueError(f"wanted golden: images up to {LONGEST_SIDE} pixels")
    preprocessing.open(content)  # whether it can be decoded
    return size


def read_golden(kind: Kind, entry: Any, preprocessing: Preprocessing) -> Golden:
    """What an entry holds that `check_golden` has let pass."""
    value = preprocessing  # values are stored as the graph takes them
    images = [
        whole(open_image(base64.b64decode(png), value.channels, value.value_range, None, FULL)[0])
        for png in entry["png"]
    ]
    outputs = {
        name: _decode(entry["outputs"][name], len(output.dimensions) - 1)[None]
        for name, output in _stored(kind).items()
        if name in entry["outputs"]
    }
    return Golden(images[0] if kind.takes == "image" else np.stack(images), outputs)


def _stored(kind: Kind) -> dict[str, Output]:
    return {name: output for name, output in kind.outputs.items() if output.golden}


def _encode(array: np.ndarray) -> Any:
    """Seven digits give back what float32 needs; other types and large arrays stay as they are."""
    if array.dtype == np.float32 and array.size <= MOST_LISTED:
        digits = [float(f"{value:.7g}") for value in array.ravel()]
        return np.array(digits, np.float64).reshape(array.shape).tolist()
    content = array.astype(array.dtype.newbyteorder("<")).tobytes()
    text = base64.b64encode(content).decode()
    return {"base64": text, "dtype": array.dtype.name, "shape": list(array.shape)}


def _decode(value: Any, rank: int) -> np.ndarray:
    """The array of an output.

    Raises:
        ValueError, KeyError, TypeError: It is none, or holds what is not a finite number.
    """
    if not isinstance(value, dict):
        shape = _shape(value, rank)
        return np.array(value, np.float32).reshape(shape)
    shape, name = tuple(value["shape"]), value["dtype"]
    if not all(type(side) is int and side > 0 for side in shape) or name not in DTYPES:
        raise ValueError(f"an array of shape {shape!r:.60} and type {name!r:.60}")
    content = base64.b64decode(value["base64"], validate=True)
    dtype = np.dtype(name).newbyteorder("<")
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes for an array of shape {shape!r:.60}")
    array = np.frombuffer(content, dtype).reshape(shape).astype(name)
    if not np.isfinite(array).all() or np.abs(array.astype(np.float64)).max() > LARGEST:
        raise ValueError("an array with a number that is none or too large")
    return array


def _shape(value: Any, rank: int) -> tuple[int, ...]:
    """The shape of a nested list of finite numbers.

    Raises:
        ValueError: It is none of this rank.
    """
    if not rank:
        if type(value) not in (int, float) or not abs(value) <= LARGEST:
            raise ValueError(f"{value!r:.60} is not a finite number up to {LARGEST:g}")
        return ()
    if not isinstance(value, list) or not value:
        raise ValueError(f"{value!r:.60} is not a list")
    shapes = {_shape(inner, rank - 1) for inner in value}
    if len(shapes) > 1:
        raise ValueError("lists of different lengths")
    return (len(value), *shapes.pop())


def _check_array(name: str, value: Any, output: Output, num_classes: int) -> None:
    sizes = {"classes": num_classes}
    wanted = [sizes.get(dimension, dimension) for dimension in output.dimensions[1:]]
    shape = ", ".join(map(str, wanted))
    try:
        found = _decode(value, len(wanted)).shape
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"wanted golden: {name} of shape ({shape}); {error}") from None
    if len(found) != len(wanted) or any(
        isinstance(size, int) and size != side for size, side in zip(wanted, found, strict=True)
    ):
        raise ValueError(f"wanted golden: {name} of shape ({shape}), not {found}")
