"""How fast two files are in one engine, taking turns, so that what else the machine does hits both
alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from resnets.kinds import Kind
from resnets.runtime.engines import make_engine

ALONE, TOGETHER = 21, 7  # turns of each file with one image, and with all of them


@dataclass(frozen=True)
class Speed:
    """Of one file, on all cores; medians.

    Args:
        latency: Seconds for one image.
        throughput: Images a second in a batch.
        batch: Images of that batch.
    """

    latency: float
    throughput: float
    batch: int


def measure_speed(
    name: str, sources: Sequence[bytes], kind: Kind, images: np.ndarray
) -> list[Speed]:
    """The speed of each of some files.

    Args:
        name: Of the engine.
        sources: Content of the files.
        kind: What they predict.
        images: (N, ...) that the graph need not scale, a batch.
    """

    def calls(count: int) -> list[Callable[[], object]]:
        shape = (count, *images.shape[1:])
        engines = [make_engine(name, source, 0, kind, shape) for source in sources]
        return [partial(engine, images[:count]) for engine in engines]

    alone, together = _take_turns(calls(1), ALONE), _take_turns(calls(len(images)), TOGETHER)
    return [
        Speed(one, len(images) / batch, len(images))
        for one, batch in zip(alone, together, strict=True)
    ]


def _take_turns(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """The median seconds of each call; the first round, in which caches are filled, is left out."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for own, call in zip(seconds, calls, strict=True):
            began = time.perf_counter()
            call()
            own.append(time.perf_counter() - began)
    return [statistics.median(own[1:]) for own in seconds]
