"""One request at a time on each worker; those that wait are counted, and never more than a few."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from resnets.server.limits import Limits, busy

T = TypeVar("T")


class Place:
    """A request's place among those that run and wait."""

    def __init__(self) -> None:
        self.future: Future[object] | None = None


class Workers:
    """Threads that predict, and the places before them. Used from one event loop.

    Args:
        count: Threads.
        limits: How many more requests may wait, and for how long.
    """

    def __init__(self, count: int, limits: Limits) -> None:
        self.count, self.limits = count, limits
        self.taken = 0  # places of requests that are received, wait or run
        self._pool = ThreadPoolExecutor(count, "predict")

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A place, taken before the body is read, so that bodies in memory are bounded too.

        A prediction cannot be interrupted: one that outlasts its request keeps the place until it
        ends.

        Raises:
            Refused: All are taken.
        """
        if self.taken >= self.count + self.limits.queue:
            raise busy(
                f"{self.taken} requests are running or waiting, as many as may; try again later"
            )
        self.taken += 1
        place, loop = Place(), asyncio.get_running_loop()
        try:
            yield place
        finally:
            if place.future is None or place.future.done():
                self._leave()
            else:
                place.future.add_done_callback(lambda _: _call(loop, self._leave))

    def _leave(self) -> None:
        self.taken -= 1

    async def run(self, place: Place, work: Callable[[], T]) -> T:
        """The result of some work on the next free worker.

        Raises:
            Refused: It took too long.
        """
        future = self._pool.submit(work)
        place.future = future  # type: ignore[assignment]
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise busy(
                f"no prediction within {self.limits.seconds:g} s; send fewer or smaller images, or"
                " try again later",
                "timeout",
            ) from None

    def close(self) -> None:
        """Ends the threads; what waits is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function)
