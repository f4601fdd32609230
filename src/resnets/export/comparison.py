"""How far an exported graph is from its model, in numbers, and which of them are too large."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from resnets.kinds.kind import Difference
from resnets.kinds.prediction import Outputs
from resnets.modelfile import Model
from resnets.runtime.engines import Engine

# How far the prepared input may be off, in grey levels of 255: ten times what `python
# benchmarks/proof_limits.py` finds on average, and one level more than it finds at most
INPUT_MEAN, INPUT_MOST = 0.25, 3.0


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
    inputs: tuple[float, float], outputs: Difference, limits: Mapping[str, float]
) -> list[str]:
    """What is larger than allowed, or not a number.

    Args:
        inputs: Of `compare_inputs`.
        outputs: Of `compare_outputs`.
        limits: Of its values.
    """
    measured = [
        ("input, on average in grey levels", inputs[0], INPUT_MEAN),
        ("input, at most in grey levels", inputs[1], INPUT_MOST),
        *((name, value, limits[name]) for name, value in outputs.values.items()),
    ]
    return [
        f"its {what} by {value:.3g} (allowed: {limit})"
        for what, value, limit in measured
        if not value <= limit
    ]
