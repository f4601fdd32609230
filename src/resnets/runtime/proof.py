"""Whether a file answers here as the trained network did: its golden images, run and compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resnets.runtime.engines import Engine
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
        limit: The difference that is allowed, as the file says.
    """

    engine: str
    images: int
    difference: float
    agreeing: int
    limit: float

    @property
    def ok(self) -> bool:
        """Proven: there were images, and all probabilities lie within the limit (one that is not a
        number does not)."""
        return self.images > 0 and self.difference <= self.limit


def prove(runner: Predictor | Engine, file: OnnxFile) -> Proof:
    """Runs every golden image of a file by itself and compares the answers."""
    engine = runner.engine if isinstance(runner, Predictor) else runner
    differences, agreeing = [], 0
    for image, expected in file.golden:
        found = engine(image[None]).probabilities[0]
        differences.append(np.abs(found - expected).max())
        agreeing += int(found.argmax() == expected.argmax())
    difference = float(np.max(differences, initial=0.0))  # NaN, if there is one, is kept
    return Proof(
        f"{engine.name} {engine.version}",
        len(differences),
        difference,
        agreeing,
        file.limit,
    )
