"""An engine: a callable from images to outputs by name, with a name and a version; and what is
alike in those that are made from a file."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from resnets.kinds import KINDS, Kind
from resnets.kinds.prediction import Outputs
from resnets.runtime.cores import usable_cores

INPUTS = tuple(dict.fromkeys(kind.takes for kind in KINDS.values()))  # of graphs, by name
Shape = tuple[int, ...]  # (N, height, width, channels), of clips (N, T, height, width, channels)
Shapes = dict[str, tuple[int | None, ...]]  # by the name of the output


class EngineError(RuntimeError):
    """An engine failed on one input, most often for want of memory; the message is the reason, fit
    for a table."""


class Engine(Protocol):
    """Whatever predicts for images or clips; safe to call from several threads. One that has a
    method `for_batches(shape)`, as `FileEngine` has, computes many images in batches."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def version(self) -> str:
        """Of the package that computes."""

    def __call__(self, image: np.ndarray) -> Outputs:
        """The outputs for (N, height, width, channels) images, or (N, T, height, width, channels)
        clips, in their own type; raises `EngineError`."""


_LIVING: weakref.WeakSet[FileEngine] = weakref.WeakSet()


def _forget_all() -> None:
    for engine in tuple(_LIVING):
        engine.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


class FileEngine:
    """An engine that is made from a file and a few options, and made again from them wherever its
    own threads are not: behind a pickle, and in a forked process, where waiting for them would
    never end. See `engines.make_engine`.

    Raises:
        ValueError: Its package is not installed, or cannot run the file in this way.
    """

    name: ClassVar[str]
    title: ClassVar[str]  # as people write it
    precisions: ClassVar[tuple[str, ...]]  # in which it computes, float32 among them
    prunes: ClassVar[bool]  # whether outputs that are not wanted take no time
    version: str

    def __init__(
        self,
        source: Path | bytes,
        threads: int = 0,
        kind: Kind | None = None,
        shape: Shape | None = None,
        precision: str = "float32",
    ) -> None:
        self._source, self._threads, self._kind = source, threads, kind
        self._shape, self.precision = shape, precision
        # of the outputs of the graph, as far as it says them, and of those that are run
        self.graph_shapes: Shapes = {}
        self.shapes: Shapes = {}
        self._opening = threading.Lock()
        self._start()
        _LIVING.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        options = self._threads, self._kind, self._shape, self.precision
        return type(self), (self._source, *options)

    def for_batches(self, shape: Shape) -> Self:
        """The same graph for batches (N, height, width, channels) of one size, each computed in one
        thread: as many calls as there are cores run side by side and do not wait for one
        another."""
        return type(self)(self._source, 1, self._kind, shape, self.precision)

    def for_any_size(self) -> Self:
        """The same graph for images of any size."""
        return type(self)(self._source, self._threads, self._kind, None, self.precision)

    def giving(self, kind: Kind) -> Self:
        """The same graph for all outputs that a kind knows."""
        return type(self)(self._source, self._threads, kind, self._shape, self.precision)

    def fits(self, images: np.ndarray) -> bool:
        """Whether it was made for images of this size."""
        return self._shape is None or images.shape[1:] == self._shape[1:]

    def __call__(self, image: np.ndarray) -> Outputs:
        """See `Engine`."""
        if not self._ready:
            try:
                with self._opening:
                    if not self._ready:
                        self._start()
            except ValueError as error:  # the file has changed or is gone
                raise EngineError(str(error)) from None
        return self._run_alike(image, self._shape) if self._shape else self._run(image)

    def _run_alike(self, images: np.ndarray, shape: Shape) -> Outputs:
        """Any number of images in batches of the one shape; the last batch is filled up."""
        count, missing = len(images), -len(images) % shape[0]
        if not self.fits(images):
            raise EngineError(
                f"an image of shape {images.shape[1:]}; this engine was made for {shape[1:]}"
            )
        full = np.pad(images, [(0, missing)] + [(0, 0)] * (len(shape) - 1)) if missing else images
        parts = [self._run(full[start : start + shape[0]]) for start in range(0, count, shape[0])]
        return {
            name: np.concatenate([part[name] for part in parts])[:count] for name in self.shapes
        }

    def _start(self) -> None:
        self._open(self._source, self._threads or usable_cores(), self._shape)
        self._ready = True

    def forget(self) -> None:
        """In a forked process: what waits for threads of the parent is never touched again, not
        even to be deleted; the next image opens the file anew."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(dict(vars(self))))
        self._ready = False
        self._opening = threading.Lock()

    def _choose(self, inputs: Sequence[str], outputs: Mapping[str, Sequence[object]]) -> None:
        """Takes the outputs that the kind knows, of a graph that has its inputs and outputs."""
        wanted = {} if self._kind is None else self._kind.outputs
        needed = [name for name, output in wanted.items() if output.always]
        takes = INPUTS if self._kind is None else (self._kind.takes,)
        if len(inputs) != 1 or inputs[0] not in takes or not set(needed) <= set(outputs):
            file = "this" if isinstance(self._source, bytes) else self._source
            ends = ", ".join(f"`{name}`" for name in needed) or "outputs"
            raise ValueError(
                f"{file}: the graph does not go from `{takes[0]}` to {ends}: not a file of"
                " `resnets export`; make it with: resnets export RUN"
            )
        (self._input,) = inputs
        self.graph_shapes = {
            name: tuple(size if isinstance(size, int) else None for size in shape)
            for name, shape in outputs.items()
        }
        self.shapes = {
            name: shape
            for name, shape in self.graph_shapes.items()
            if self._kind is None or name in wanted
        }

    def _open(self, source: Path | bytes, threads: int, shape: Shape | None) -> None:
        """Opens the graph, for inputs of this shape alone where there is one, and calls
        `_choose`."""
        raise NotImplementedError

    def _run(self, image: np.ndarray) -> Outputs:
        raise NotImplementedError


class Fitted:
    """An engine for images of one size, for which its graph was compiled, that takes others too:
    the first of them opens the file once more, for images of any size. A network computes faster
    where all sizes are known.

    Args:
        engine: With a shape of one image.
    """

    def __init__(self, engine: FileEngine) -> None:
        self._engine = engine
        self._any: FileEngine | None = None
        self.name, self.version, self.precision = engine.name, engine.version, engine.precision
        self.graph_shapes, self.shapes = engine.graph_shapes, engine.shapes
        self.for_batches = engine.for_batches

    def giving(self, kind: Kind) -> Fitted:
        """See `FileEngine`."""
        return Fitted(self._engine.giving(kind))

    def __call__(self, image: np.ndarray) -> Outputs:
        """See `Engine`."""
        if self._engine.fits(image):
            return self._engine(image)
        try:
            self._any = self._any or self._engine.for_any_size()
        except ValueError as error:  # the file has changed or is gone
            raise EngineError(str(error)) from None
        return self._any(image)
