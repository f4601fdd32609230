"""Images in, predictions out, in the same order: one by one, or many in batches, each read and
computed by one thread, so that every core has work of its own and none waits for another."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from resnets.images import BadImage
from resnets.kinds.prediction import Outputs, Prediction
from resnets.runtime.decoding import Decoded
from resnets.runtime.engines import Engine, EngineError
from resnets.runtime.inputs import Source

# threads that decode while the network runs on all cores; decoding a photo costs less than it
DECODERS = 2
# images that may be decoded or waiting at a time: memory is bounded by them, however long the list
AHEAD = 4
FEW = 16  # images that are predicted one by one first: another engine has to be worth opening
PIXELS, MOST = 2**19, 64  # of a batch, and its images: eight at 256 px
BATCHES_AHEAD = 2  # that are computed or wait, for each thread
TRIED = 2  # batches, for each thread, after which an engine is known
MANY = 256  # images after which it pays to try another one

Named = tuple[str, Source]


def batch_size(height: int, width: int) -> int:
    """How many images of this size are computed together."""
    return max(1, min(MOST, PIXELS // (height * width)))


@dataclass(frozen=True)
class Steps:
    """What is done with one image.

    Args:
        read: From its name and source to what an engine takes; of a video, whose windows are read
            one after the other, to its prediction.
        conclude: Its name, what was read and the outputs for a batch of it alone, to its
            prediction.
        alone: Its name and what was read to its prediction, by the engine for single images.
        fail: Its name and the reason to a prediction without a result.
    """

    read: Callable[[str, Source], Decoded | Prediction]
    conclude: Callable[[str, Decoded, Outputs], Prediction]
    alone: Callable[[str, Decoded], Prediction]
    fail: Callable[[str, Exception], Prediction]


def one_by_one(steps: Steps, images: Iterable[Named]) -> Iterator[Prediction]:
    """Predictions in the order of the images; the next ones are read meanwhile."""
    pool = ThreadPoolExecutor(DECODERS, "decode")
    waiting: deque[tuple[str, Future[Decoded | Prediction]]] = deque()

    def finished() -> Prediction:
        file, future = waiting.popleft()
        try:
            found = future.result()
            return found if isinstance(found, Prediction) else steps.alone(file, found)
        except (BadImage, EngineError, MemoryError) as error:
            return steps.fail(file, error)

    try:
        for file, source in images:
            waiting.append((file, pool.submit(steps.read, file, source)))
            if len(waiting) == AHEAD:
                yield finished()
        while waiting:
            yield finished()
    finally:  # also when the caller stops early
        pool.shutdown(cancel_futures=True)


@dataclass
class Candidate:
    """An engine that may compute the batches, opened when its turn comes.

    Args:
        make: Opens it; ValueError where it cannot run the graph.
    """

    make: Callable[[], Engine]
    engine: Engine | None = None
    given: int = 0  # batches
    seconds: list[float] = field(default_factory=list)


class Batches:
    """Predicts for images in batches. Where there are several engines, each computes some of the
    first ones, and the fastest all others.

    Args:
        steps: What is done with each image.
        engines: By name, how each is opened; the first is known to run the graph.
        size: Images of a batch.
        threads: That read and compute.
    """

    def __init__(
        self, steps: Steps, engines: Mapping[str, Callable[[], Engine]], size: int, threads: int
    ) -> None:
        self.steps, self.size, self.threads = steps, size, threads
        self._candidates = {name: Candidate(make) for name, make in engines.items()}

    @property
    def remark(self) -> str:
        """Which engine was faster and by how much; empty where there was no choice, or none yet."""
        times = {name: min(one.seconds) for name, one in self._candidates.items() if one.seconds}
        fastest, *others = sorted(times, key=lambda name: times[name]) or [""]
        return ", ".join(
            f"{fastest} {times[other] / times[fastest]:.1f} times as fast as {other} here"
            for other in others
        )

    def predict(self, images: Iterator[Named]) -> Iterator[Prediction]:
        """Predictions in the order of the images."""
        pool = ThreadPoolExecutor(self.threads, "predict")
        waiting: deque[Future[list[Prediction | Exception]]] = deque()
        try:
            while group := list(islice(images, self.size)):
                waiting.append(pool.submit(self._predict, group, self._choose()))
                if len(waiting) > BATCHES_AHEAD * self.threads:
                    yield from _finished(waiting.popleft())
            while waiting:
                yield from _finished(waiting.popleft())
        finally:  # also when the caller stops early
            pool.shutdown(cancel_futures=True)

    def _choose(self) -> Candidate:
        """Who computes the next batch."""
        opened = [one for one in self._candidates.values() if one.engine]
        timed = [one for one in opened if one.seconds] or opened
        chosen = self._untried() or min(timed, key=lambda one: min(one.seconds, default=0))
        chosen.given += 1
        return chosen

    def _untried(self) -> Candidate | None:
        """The first of the engines at the start, and after many images each of the others."""
        given = self.size * sum(one.given for one in self._candidates.values())
        for name, one in tuple(self._candidates.items()):
            if one.given >= TRIED * self.threads or 0 < given < MANY:
                continue
            try:
                one.engine = one.engine or one.make()
            except ValueError:
                if len(self._candidates) == 1:
                    raise
                del self._candidates[name]
                continue
            return one
        return None

    def _predict(
        self, group: Sequence[Named], candidate: Candidate
    ) -> list[Prediction | Exception]:
        read = [self._read(file, source) for file, source in group]
        outputs = iter(self._run([one for one in read if isinstance(one, Decoded)], candidate))
        return [
            self._conclude(file, one, next(outputs))
            if isinstance(one, Decoded)
            else self._failed(file, one)
            for (file, _), one in zip(group, read, strict=True)
        ]

    def _read(self, file: str, source: Source) -> Decoded | Prediction | Exception:
        try:
            return self.steps.read(file, source)
        except (ValueError, MemoryError) as error:
            return error

    def _run(self, decoded: Sequence[Decoded], candidate: Candidate) -> list[Outputs | None]:
        """The outputs for each image; None for all where the engine failed, perhaps on one."""
        assert candidate.engine is not None
        if not decoded:
            return []
        began = time.perf_counter()
        try:
            found = candidate.engine(np.stack([one.framed for one in decoded]))
        except (EngineError, MemoryError):
            return [None] * len(decoded)
        candidate.seconds.append(time.perf_counter() - began)
        return [
            {name: array[place : place + 1] for name, array in found.items()}
            for place in range(len(decoded))
        ]

    def _conclude(
        self, file: str, decoded: Decoded, outputs: Outputs | None
    ) -> Prediction | Exception:
        try:
            if outputs is None:
                return self.steps.alone(file, decoded)
            return self.steps.conclude(file, decoded, outputs)
        except (EngineError, MemoryError) as error:
            return self.steps.fail(file, error)

    def _failed(self, file: str, found: Prediction | Exception) -> Prediction | Exception:
        """A mistake of the caller stays an exception, raised when its turn has come."""
        if isinstance(found, (BadImage, MemoryError)):
            return self.steps.fail(file, found)
        return found


def _finished(future: Future[list[Prediction | Exception]]) -> Iterator[Prediction]:
    for found in future.result():
        if isinstance(found, Exception):
            raise found
        yield found
