"""The KServe v2 protocol in JSON: tensors in, tensors out, as the graph has them.

An input is `image`: UINT8 (UINT16 where the file says so) of shape (N, H, W, C), or BYTES of shape
(N), image files in base64.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from resnets.images import BadImage
from resnets.kinds.prediction import Outputs
from resnets.runtime.file_engine import EngineError
from resnets.server.limits import MOST_IMAGES, Limits, Refused, busy
from resnets.server.predictions import check_pixels
from resnets.server.served import Served

INPUT = "image"


def datatype(name: str) -> str:
    """NumPy's name of a type in the words of the protocol: `FP32`, `INT64`, `UINT8`."""
    return name.replace("float", "fp").upper()


def metadata(served: Served) -> dict[str, Any]:
    """Inputs and outputs of a file."""
    predictor = served.predictor
    value, kind = predictor.preprocessing, predictor.kind
    fixed = {"classes": len(predictor.classes)}
    shapes = getattr(predictor.engine, "graph_shapes", {})
    return {
        "name": served.name,
        "versions": [],
        "platform": "onnx",
        "inputs": [
            {
                "name": INPUT,
                "datatype": datatype(value.dtype.name),
                "shape": [-1, -1, -1, value.channels],
            }
        ],
        "outputs": [
            {
                "name": name,
                "datatype": datatype(served.types[name]),
                "shape": [
                    fixed.get(named, -1 if named == "N" or size is None else size)
                    for named, size in zip(kind.outputs[name].dimensions, shape, strict=False)
                ],
            }
            for name, shape in ((name, shapes[name]) for name in predictor.outputs)
        ],
    }


def infer(served: Served, body: bytes, limits: Limits) -> dict[str, Any]:
    """An inference request, parsed and run.

    Raises:
        Refused: It is not one, or the engine failed.
    """
    request = _parse(body)
    if served.predictor.kind.takes != INPUT:
        raise Refused(422, "takes_clips", f"{served.name} takes videos; use POST /v1/predict")
    names = _wanted(served, request)
    parts: list[Outputs] = []
    for image in _images(served, request, limits):
        try:
            parts.append(served.predictor.outputs_for(image, large=bool(names)))
        except BadImage as error:
            raise Refused(422, "bad_image", f"the image cannot be read: {error}") from None
        except (EngineError, MemoryError, ValueError) as error:
            reason = str(error) or "not enough memory"
            raise busy(f"the engine could not run the image ({reason})", "engine") from None
    given = {"id": request["id"]} if isinstance(request.get("id"), str) else {}
    return {
        "model_name": served.name,
        **given,
        "outputs": [_tensor(name, parts) for name in names or tuple(parts[0])],
    }


def _parse(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise _wrong("the body is not JSON; binary tensors are not supported") from None
    if not isinstance(request, dict):
        raise _wrong("the body is not a JSON object")
    return request


def _wrong(message: str) -> Refused:
    return Refused(400, "request", message)


def _wanted(served: Served, request: dict[str, Any]) -> tuple[str, ...]:
    """Names of the outputs that are asked for; none: all that are small."""
    given = request.get("outputs") or []
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise _wrong("outputs is not a list of objects")
    known = served.predictor.outputs
    names = tuple(str(one.get("name")) for one in given)
    for name in names:
        if name not in known:
            raise _wrong(f"no output is called {name[:40]!r}; allowed: {', '.join(known)}")
    return tuple(dict.fromkeys(names))


def _images(
    served: Served, request: dict[str, Any], limits: Limits
) -> Sequence[np.ndarray | bytes]:
    """(H, W, C) arrays, or contents of files."""
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise _wrong(f"inputs is not a list of one tensor called {INPUT}")
    tensor = inputs[0]
    name, given, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    if name != INPUT:
        raise _wrong(f"the input is called {str(name)[:40]!r}; allowed: {INPUT}")
    if not isinstance(shape, list) or not all(type(side) is int and side > 0 for side in shape):
        raise _wrong("shape is not a list of whole numbers from 1 on")
    if shape and shape[0] > MOST_IMAGES:
        raise Refused(413, "too_many_images", f"{shape[0]} images; allowed: {MOST_IMAGES}")
    if given == "BYTES":
        return _contents(tensor.get("data"), shape, limits)
    pixels = datatype(served.predictor.preprocessing.dtype.name)
    if given != pixels:
        raise _wrong(f"datatype is {str(given)[:40]!r}; allowed: {pixels}, BYTES")
    return list(_array(served, tensor.get("data"), shape, limits))


def _array(served: Served, data: Any, shape: list[int], limits: Limits) -> np.ndarray:
    value = served.predictor.preprocessing
    if len(shape) != 4 or shape[3] != value.channels:
        raise _wrong(f"shape is {shape[:8]}; allowed: [N, height, width, {value.channels}]")
    if shape[1] * shape[2] > limits.megapixels * 1e6:
        raise Refused(
            413,
            "too_many_pixels",
            f"{shape[2]} x {shape[1]} pixels; allowed: {limits.megapixels:g} million",
        )
    try:
        array = np.asarray(data)
        fits = array.dtype.kind in "iu" and array.size == np.prod(shape, dtype=object)
        fits = fits and array.min() >= 0 and array.max() <= value.value_range
    except (ValueError, TypeError, OverflowError, RecursionError):  # lists of several lengths
        fits = False
    if not fits:
        raise _wrong(
            f"data are not {'x'.join(map(str, shape))} whole numbers from 0 to {value.value_range}"
        )
    return array.astype(value.dtype).reshape(shape)


def _contents(data: Any, shape: list[int], limits: Limits) -> list[bytes]:
    if not isinstance(data, list) or [len(data)] != shape:
        raise _wrong("BYTES: shape is [N], data a list of N image files in base64")
    images = []
    for text in data:
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError, TypeError):
            raise _wrong("data: a file that is not base64") from None
        check_pixels(content, limits)
        images.append(content)
    return images


def _tensor(name: str, parts: list[Outputs]) -> dict[str, Any]:
    arrays = [part[name] for part in parts]
    if len({array.shape for array in arrays}) > 1:
        raise Refused(
            422, "sizes", f"{name} has the size of its image: send images of one size, or one"
        )
    array = np.concatenate(arrays)
    return {
        "name": name,
        "datatype": datatype(array.dtype.name),
        "shape": list(array.shape),
        "data": array.ravel().tolist(),
    }
