"""Whether a file gives here what the trained network gave: its golden images, run and compared.

This finds damage, another engine's mistakes and other hardware's; it is no protection against
somebody who alters a file on purpose and seals it again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resnets.runtime.engines import Engine, EngineError
from resnets.runtime.onnxfile import OnnxFile
from resnets.runtime.predictor import Predictor


@dataclass(frozen=True)
class Proof:
    """What came of it.

    Args:
        engine: Name and version of what ran the file.
        images: How many golden images there were.
        difference: The largest absolute difference of any probability.
        agreeing: Golden images with the same most probable class. Two classes closer than `limit`
            may change places in a sound file, so this is told and not judged.
        limit: The difference that is allowed (`OnnxFile.limit`).
        error: Why an image could not be run; then nothing is verified.
    """

    engine: str
    images: int
    difference: float
    agreeing: int
    limit: float
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Verified: there were images, and all probabilities lie within the limit (one that is not
        a number does not)."""
        return self.error is None and self.images > 0 and self.difference <= self.limit

    def __str__(self) -> str:
        if self.error is not None:
            return f"NOT VERIFIED: {self.engine} could not run a golden image: {self.error}"
        verdict = "verified: ONNX equals" if self.ok else "NOT VERIFIED: ONNX differs from"
        return (
            f"{verdict} PyTorch on {self.images} golden images ({self.engine}), largest difference"
            f" {self.difference:.1e} (allowed: {self.limit:g})"
        )


def prove(runner: Predictor | Engine, file: OnnxFile) -> Proof:
    """Runs every golden image of a file by itself and compares the probabilities."""
    engine = runner.engine if isinstance(runner, Predictor) else runner
    differences: list[float] = []
    agreeing, reason = 0, None
    for image, expected in file.golden:
        try:
            found = engine(image[None]).probabilities[0]
        except EngineError as error:
            reason = str(error)
            break
        if found.shape != expected.shape:
            reason = f"probabilities of shape {found.shape} for {len(expected)} classes"
            break
        differences.append(np.abs(found - expected).max())
        agreeing += int(found.argmax() == expected.argmax())
    difference = float(np.max(differences, initial=0.0))  # NaN, if there is one, is kept
    return Proof(
        f"{engine.name} {engine.version}",
        len(differences),
        difference,
        agreeing,
        file.limit,
        reason,
    )
