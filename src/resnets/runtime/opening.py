"""`load`: from `NAME.onnx` to a predictor."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from resnets.runtime.engines import (
    AUTO,
    ENGINES,
    available_engines,
    engines_for,
    make_engine,
    precision_in,
)
from resnets.runtime.file_engine import Engine, FileEngine, Fitted, Shape
from resnets.runtime.onnxfile import OnnxFile, read_onnx
from resnets.runtime.predictor import Predictor
from resnets.runtime.proof import prove


def load(path: str | Path, engine: str = AUTO, threads: int = 0) -> Predictor:
    """Opens a file of `resnets export`.

    Args:
        path: `NAME.onnx`.
        engine: `onnxruntime`, `openvino`, or `auto`: onnxruntime, and for many images whichever is
            installed, gives the stored predictions and turns out to be faster on the first ones; of
            a file in bfloat16 openvino alone. onnxruntime computes such a file in float32.
        threads: Threads that compute; 0 takes all cores.

    Raises:
        ValueError: The file is not whole, not ours or too new, the engine is unknown, missing or
            cannot run it, or an argument is of another type.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(
            f"load takes the name of a file, not a value of type {type(path).__name__}:"
            " load('photos.onnx')"
        )
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 0:
        raise ValueError(f"threads is {threads!r}; allowed: whole numbers from 0 on (0: all cores)")
    file = read_onnx(path)
    first = engines_for(file.precision)[0] if engine == AUTO else engine
    precision = precision_in(first, file.precision)
    made = open_engine(file, first, threads, precision)
    for name, output in file.kind.outputs.items():
        named, shape = output.dimensions, made.graph_shapes.get(name, ())
        given = dict(zip(named, shape, strict=False)).get("classes")
        if given not in (None, len(file.classes)):
            raise ValueError(
                f"{path}: it names {len(file.classes)} classes, but its network gives {given}"
                f" {name}; export it again"
            )
    known = file.classes, file.preprocessing, file.metadata, file.kind, file.options
    found = Predictor(made, *known, file.sampling)
    found.name, found.sha256 = str(path), file.sha256
    found._opened = (Path(path).absolute(), engine, threads)
    found._threads = threads
    if engine == AUTO:
        found._find_others = partial(_find_others, file, first)
    return found


def open_engine(
    file: OnnxFile, name: str, threads: int = 0, precision: str = "float32"
) -> FileEngine | Fitted:
    """An engine for single images, compiled for the size that the graph need not scale, and for
    small outputs alone where that is faster.

    In float32 it takes images of other sizes too. In int8, OpenVINO has been seen to give wrong
    predictions for them, and no error; in bfloat16, resizing in the graph would lose digits of the
    image.

    Raises:
        ValueError: See `make_engine`.
    """
    pruning = [engine.name for engine in ENGINES.values() if engine.prunes]
    kind = file.kind.light if name in pruning else file.kind
    fitted = make_engine(name, file.path, threads, kind, file.framed_shape, precision)
    return Fitted(fitted) if (file.precision, precision) == ("float32", "float32") else fitted


def _find_others(file: OnnxFile, first: str) -> dict[str, Callable[[Shape], Engine]]:
    """The other engines that are installed and made for its precision."""
    known = engines_for(file.precision)
    names = [name for name in available_engines() if name in known and name != first]
    return {name: partial(_open_other, file, name) for name in names}


def _open_other(file: OnnxFile, name: str, shape: Shape) -> Engine:
    """An engine that nobody named, for batches, once it has given the stored predictions.

    Raises:
        ValueError: It gives others, or cannot run the graph.
    """
    other = make_engine(name, file.path, 1, file.kind.light, shape)
    whole = any(one.image.shape != shape[1:] for one in file.golden)  # in the first files
    proof = prove(make_engine(name, file.path, 1, file.kind) if whole else other, file)
    if not proof.ok:
        raise ValueError(f"{file.path}: {proof}")
    return other
