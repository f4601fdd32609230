"""Whether a file gives here what the trained network gave: its golden images, run and compared.

This finds damage, another engine's mistakes and other hardware's; it is no protection against
somebody who alters a file on purpose and seals it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resnets.runtime.engines import Engine, EngineError
from resnets.runtime.golden import Golden
from resnets.runtime.onnxfile import OnnxFile

if TYPE_CHECKING:
    from resnets.runtime.predictor import Predictor


@dataclass(frozen=True)
class Proof:
    """What came of it.

    Args:
        engine: Name and version of what ran the file.
        images: How many golden images there were.
        difference: The largest difference of what is compared; of several values, of the first
            that is beyond its limit, else of the first (`kinds.kind.Difference`).
        agreeing: Golden images for which both come to the same decision. Two classes closer than
            `limit` may change places in a sound file, so this is told and not judged.
        limit: What this difference may be (`OnnxFile.limits`).
        error: Why an image could not be run; then nothing is verified.
        of: What the file is held against.
    """

    engine: str
    images: int
    difference: float
    agreeing: int
    limit: float
    error: str | None = None
    of: str = "PyTorch"

    @property
    def ok(self) -> bool:
        """Verified: there were images, and all differences lie within their limits (one that is
        not a number does not)."""
        return self.error is None and self.images > 0 and self.difference <= self.limit

    def __str__(self) -> str:
        if self.error is not None:
            return f"NOT VERIFIED: {self.engine} could not run a golden image: {self.error}"
        verdict = "verified: ONNX equals" if self.ok else "NOT VERIFIED: ONNX differs from"
        return (
            f"{verdict} {self.of} on {self.images} golden images ({self.engine}), largest"
            f" difference {self.difference:.1e} (allowed: {self.limit:g})"
        )


def prove(runner: Predictor | Engine, file: OnnxFile) -> Proof:
    """Runs every golden image of a file by itself and compares the outputs."""
    engine = runner.engine if hasattr(runner, "engine") else runner
    values: dict[str, float] = {}
    images, agreeing, reason = 0, 0, None
    for golden in file.golden:
        try:
            found = engine(golden.image[None])
        except EngineError as error:
            reason = str(error)
            break
        if reason := _misfit(golden, found, len(file.classes)):
            break
        difference = file.kind.differences(found, golden.outputs, file.options)
        for name, value in difference.values.items():
            values[name] = float(np.maximum(values.get(name, 0.0), value))  # NaN is kept
        images += 1
        agreeing += difference.agreeing
    limits = file.limits
    beyond = [name for name, value in values.items() if not value <= limits[name]]
    shown = [*beyond, *values, *limits][0]
    ran = f"{engine.name} {engine.version}"
    of = "PyTorch" if file.precision == "float32" else "its own outputs at export"
    return Proof(ran, images, values.get(shown, 0.0), agreeing, limits[shown], reason, of)


def _misfit(golden: Golden, found: Mapping[str, np.ndarray], num_classes: int) -> str | None:
    """What of the outputs cannot be compared."""
    for name, expected in golden.outputs.items():
        if name not in found:
            return f"no {name} among its outputs"
        if found[name].shape != expected.shape:
            return f"{name} of shape {found[name].shape[1:]} for {num_classes} classes"
    return None
