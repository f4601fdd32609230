"""How far an exported graph is from its model, in numbers, and which of them are too large."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from resnets.kinds import Kind
from resnets.kinds.inverse import InverseTransform
from resnets.kinds.kind import Difference
from resnets.kinds.prediction import Outputs
from resnets.modelfile import Model
from resnets.runtime.engines import Engine

# How far the prepared input may be off, in grey levels of 255: ten times what `python
# benchmarks/proof_limits.py` finds on average, and one level more than it finds at most
INPUT_MEAN, INPUT_MOST = 0.25, 3.0
FARTHEST = 640.0  # pixels: beyond most inputs, so that borders are met too
PLACES_MOST = 0.01  # pixels that a place in the image may be off


def compare_inputs(
    beginning: Engine, batches: Sequence[np.ndarray], expected: Sequence[np.ndarray], model: Model
) -> tuple[float, float]:
    """How far the input that a graph prepares is from what it should be, in grey levels of 255: the
    largest mean of an image, and the largest of all.

    Args:
        beginning: Runs what `front` gives.
        batches: Whole images.
        expected: Their `Preprocessing.pixels`.
        model: Whose preprocessing it is.
    """
    value, mean, most = model.preprocessing, 0.0, 0.0
    std = np.asarray(value.std, np.float32)
    for batch, pixels in zip(batches, expected, strict=True):
        found = beginning(batch)["prepared"]
        scale = std.reshape(1, -1, *(1 for _ in found.shape[2:]))
        difference = np.abs(found - value.normalise(pixels)) * scale * 255
        means = difference.reshape(len(difference), -1).mean(1)
        mean = float(np.maximum(mean, means.max()))
        most = float(np.maximum(most, difference.max()))
    return mean, most


def probe_places(kind: Kind, outputs: Outputs) -> Outputs:
    """For each output that is a place in the input, made-up ones of its shape for one image, that
    tell every place from its neighbours."""
    made = {}
    for name, array in outputs.items():
        one = array[:1]
        if kind.outputs[name].place == "points":
            made[name] = np.linspace(-20, 1.1 * FARTHEST, one.size).astype(np.float32) % FARTHEST
        elif kind.outputs[name].place == "pixels":
            rows, columns = np.indices(one.shape[-2:])
            made[name] = ((rows * 31 + columns * 17) % 251).astype(one.dtype)
    return {name: values.reshape(outputs[name][:1].shape) for name, values in made.items()}


def compare_places(
    ending: Engine, sizes: Sequence[tuple[int, int]], places: Outputs, model: Model
) -> float:
    """How far places in the image are from where they should be, in pixels, for images of some
    heights and widths; for outputs with a number for each pixel, the largest difference of such
    numbers, of which neighbours differ by far more than is allowed.

    Args:
        ending: Runs what `back` gives.
        sizes: Heights and widths.
        places: In the input (`probe_places`).
        model: Whose preprocessing it is.
    """
    largest, value = 0.0, model.preprocessing
    for height, width in sizes:
        found = ending(np.zeros((1, height, width, value.channels), value.dtype))
        expected = InverseTransform(*value.axes(height, width))(model.task.kind, places)
        for name, array in expected.items():
            if array.shape != found[name].shape:
                return math.inf
            off = np.abs(found[name].astype(np.float64) - array.astype(np.float64)).max()
            largest = float(np.maximum(largest, off))
    return largest


def compare_outputs(
    engine: Engine, batches: Sequence[np.ndarray], expected: Sequence[Outputs], model: Model
) -> Difference:
    """The largest of each difference between an engine and a model, and for how many images both
    come to the same decision.

    Args:
        engine: Runs the exported graph.
        batches: Images that it need not scale.
        expected: What the model gives for them.
        model: The model.
    """
    kind, options = model.task.kind, model.options
    values: dict[str, float] = {}
    agreeing = 0
    for batch, wanted in zip(batches, expected, strict=True):
        found = kind.differences(engine(batch), wanted, options)
        for name, value in found.values.items():
            values[name] = float(np.maximum(values.get(name, 0.0), value))  # NaN is kept
        agreeing += found.agreeing
    return Difference(values, agreeing)


def beyond_limits(
    inputs: tuple[float, float], places: float, outputs: Difference, limits: Mapping[str, float]
) -> list[str]:
    """What is larger than allowed, or not a number.

    Args:
        inputs: Of `compare_inputs`.
        places: Of `compare_places`.
        outputs: Of `compare_outputs`.
        limits: Of its values.
    """
    measured = [
        ("input, on average in grey levels", inputs[0], INPUT_MEAN),
        ("input, at most in grey levels", inputs[1], INPUT_MOST),
        ("places in the image, in pixels", places, PLACES_MOST),
        *((name, value, limits[name]) for name, value in outputs.values.items()),
    ]
    return [
        f"its {what} by {value:.3g} (allowed: {limit})"
        for what, value, limit in measured
        if not value <= limit
    ]
