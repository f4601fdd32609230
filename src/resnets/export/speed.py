"""How fast files are in engines, taking turns, so that what else the machine does hits all
alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from resnets.kinds import Kind
from resnets.runtime.engines import make_engine

ALONE, TOGETHER = 21, 7  # turns of each file with one image, and with all of them


class Timed(NamedTuple):
    """What is timed.

    Args:
        engine: Its name.
        source: Content of the file.
        precision: In which the engine computes.
    """

    engine: str
    source: bytes
    precision: str


@dataclass(frozen=True)
class Speed:
    """Of a file in an engine, on all cores.

    Args:
        alone: Seconds for one image, of each turn.
        together: Seconds for a batch, of each turn.
        batch: Images of that batch.
    """

    alone: tuple[float, ...]
    together: tuple[float, ...]
    batch: int

    @property
    def latency(self) -> float:
        """Seconds for one image, the median."""
        return statistics.median(self.alone)

    @property
    def throughput(self) -> float:
        """Images a second in a batch, at the median of its seconds."""
        return self.batch / statistics.median(self.together)

    def to_dict(self) -> dict[str, float]:
        """Plain values, as they go into JSON."""
        return {"latency": self.latency, "throughput": self.throughput, "batch": self.batch}


def measure_speeds(timed: Sequence[Timed], kind: Kind, images: np.ndarray) -> list[Speed]:
    """The speed of each, in one round of turns.

    Args:
        timed: Files in engines.
        kind: What they predict.
        images: (N, ...) that the graph need not scale, a batch.
    """

    def calls(count: int) -> list[Callable[[], object]]:
        shape = (count, *images.shape[1:])
        engines = [
            make_engine(one.engine, one.source, 0, kind, shape, one.precision) for one in timed
        ]
        return [partial(engine, images[:count]) for engine in engines]

    alone, together = _take_turns(calls(1), ALONE), _take_turns(calls(len(images)), TOGETHER)
    return [Speed(*both, len(images)) for both in zip(alone, together, strict=True)]


def fastest(speeds: Sequence[Speed]) -> Speed:
    """That of a file in whichever engine is fastest, which may be another one for batches."""
    alone, together = (
        min(own, key=statistics.median)
        for own in zip(*((one.alone, one.together) for one in speeds), strict=True)
    )
    return Speed(alone, together, speeds[0].batch)


def gains(before: Speed, after: Speed) -> tuple[float, float]:
    """How many times as fast the second one is, with one image and in batches: the median over the
    turns, in which both met the same machine."""
    return _ratio(before.alone, after.alone), _ratio(before.together, after.together)


def _ratio(before: Sequence[float], after: Sequence[float]) -> float:
    return statistics.median(old / new for old, new in zip(before, after, strict=True))


def _take_turns(calls: Sequence[Callable[[], object]], rounds: int) -> list[tuple[float, ...]]:
    """The seconds of each call; the first round, in which caches are filled, is left out."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for own, call in zip(seconds, calls, strict=True):
            began = time.perf_counter()
            call()
            own.append(time.perf_counter() - began)
    return [tuple(own[1:]) for own in seconds]
