"""What the settings left open are decided by: the training images, the weights and the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resnets.data.check import Check
from resnets.data.findings import Fact
from resnets.kinds.sample import Sample
from resnets.pretrained import Weights
from resnets.training.device import choose_device, has_bfloat16
from resnets.training.recipes import Circumstances
from resnets.training.settings import TrainSettings

LONG = 1.6  # long side over short one, from which on an image counts as elongated


def look(
    settings: TrainSettings, weights: Weights | None, check: Check, training: Sequence[Sample]
) -> Circumstances:
    """Circumstances of a run.

    Args:
        settings: The task is known.
        weights: The first ones, if there are any.
        check: Of all data.
        training: Samples to train on.
    """
    device, sizes = choose_device(settings.device), sizes_of(check, training)
    own = weights.preprocessing.size[0] if weights and weights.preprocessing else None
    return Circumstances(
        pretrained=weights is not None or settings.weights == "given",
        size=own or (224 if weights else None),
        median=median(sizes),
        elongated=float((sizes.max(1) > LONG * sizes.min(1)).mean()),
        count=len(sizes),
        seconds=_seconds(check, training),
        extent=_extent(training, sizes),
        device=device.type,
        bfloat16=has_bfloat16(device),
    )


def sizes_of(check: Check, samples: Sequence[Sample]) -> np.ndarray:
    """(n, 2) heights and widths of samples, in their files."""
    return np.array([(fact.height, fact.width) for fact in _facts(check, samples)])


def median(sizes: np.ndarray) -> tuple[int, int]:
    """Median height and width."""
    return int(np.median(sizes[:, 0])), int(np.median(sizes[:, 1]))


def _seconds(check: Check, samples: Sequence[Sample]) -> float | None:
    """Median length of videos; None of images."""
    return float(np.median([fact.seconds for fact in _facts(check, samples)])) or None


def _facts(check: Check, samples: Sequence[Sample]) -> list[Fact]:
    """What the check found in the files of some samples."""
    facts = {
        sample.name: fact for sample, fact in zip(check.found.samples, check.facts, strict=True)
    }
    return [facts[sample.name] for sample in samples]


def _extent(samples: Sequence[Sample], sizes: np.ndarray) -> float | None:
    """Median side of things, as a part of the longer side of their image; None without boxes."""
    parts = [
        ((right - left) * (bottom - top)) ** 0.5 / longer
        for sample, longer in zip(samples, sizes.max(1).tolist(), strict=True)
        for left, top, right, bottom in (one.box for one in sample.annotations if one.box)
        if right > left and bottom > top
    ]
    return float(np.median(parts)) if parts else None
