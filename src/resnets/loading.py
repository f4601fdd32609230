"""A predictor from whatever a trained network lies in: an exported file, which needs no torch, or a
run folder, a model file or published weights, which do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnets.runtime import Predictor
from resnets.runtime import load as load_onnx
from resnets.runtime.engines import AUTO

if TYPE_CHECKING:
    from resnets.screen import Screen


def load(
    path: str | os.PathLike[str] | Any,
    engine: str | None = None,
    threads: int | None = None,
    *,
    model: str | None = None,
    classes: str | None = None,
    changes: Mapping[str, Any] | None = None,
    screen: Screen | None = None,
) -> Predictor:
    """Opens a trained network to predict with it.

    Args:
        path: `NAME.onnx`; in the full install also a run folder, what `train` returned, a model
            file, a state dict, or published weights (`timm:NAME.TAG`).
        engine: What runs an `.onnx` file: `onnxruntime`, `openvino` or, the default, `auto`:
            onnxruntime, and for many images whichever turns out to be faster.
        threads: Threads that compute, of an `.onnx` file; 0, the default, takes all cores.
        model: The network of a state dict, or `timm:NAME`; an `.onnx` file knows its own.
        classes: The classes of a state dict: a text file with one in each line, or `imagenet`.
        changes: How images are prepared, for weights that do not say it: some of `size`, `mean`,
            `std`, `interpolation`, `fit` and `crop`.
        screen: Told what is downloaded; None tells nothing.

    Raises:
        ValueError: The file is refused, or an argument does not apply to it; the message says what
            to do.
    """
    path = getattr(path, "folder", path)  # of a run
    check_arguments(path, engine, threads, model, classes)
    if is_onnx(path):
        return load_onnx(os.fspath(path), engine or AUTO, threads or 0)
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        return load_onnx(os.fspath(path))  # which refuses it, with the cure
    from resnets.run.opening import open_model
    from resnets.screen import Screen
    from resnets.torch_engine import TorchEngine, quicken

    opened = open_model(os.fspath(path), model, classes, screen or Screen(quiet=True), changes)
    sha256 = opened.sha256  # of the weights as they are in the file
    quicken(opened)
    found = Predictor(
        TorchEngine(opened),
        opened.classes,
        opened.preprocessing,
        opened.metadata,
        opened.task.kind,
        opened.options,
        opened.sampling,
    )
    found.name, found.sha256 = str(path), sha256
    return found


def is_onnx(path: str | os.PathLike[str]) -> bool:
    """Whether a name is that of an exported file."""
    return Path(path).suffix.lower() == ".onnx"


def check_arguments(
    path: str | os.PathLike[str] | Any,
    engine: str | None,
    threads: int | None,
    model: str | None,
    classes: str | None,
) -> None:
    """Refuses arguments of `load` that do not apply, before any work.

    Raises:
        ValueError: With what is allowed.
    """
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise ValueError(
            f"a network is loaded by the name of its file or run folder, not by {path!r:.60}"
            f" ({type(path).__name__}): load('photos.onnx')"
        )
    onnx = is_onnx(path)
    given = {"model": model, "classes": classes} if onnx else {"engine": engine, "threads": threads}
    for name, value in given.items():
        if value is not None:
            reason = (
                "an exported file knows its own"
                if onnx
                else "it is chosen for .onnx files only (made by: resnets export)"
            )
            raise ValueError(f"{name} {value!r} does not apply to {path}: {reason}; leave it out")
