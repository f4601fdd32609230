"""What runs the graph: an engine is a callable from images to outputs by name, with a name and a
version. `ENGINES` lists them."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from resnets.kinds import KINDS, Kind
from resnets.kinds.prediction import Outputs
from resnets.runtime.cores import usable_cores


class EngineError(RuntimeError):
    """An engine failed on one input, most often for want of memory; the message is the reason, fit
    for a table."""


MOST_THREADS = 1024
INPUTS = tuple(dict.fromkeys(kind.takes for kind in KINDS.values()))  # of graphs, by name


class Engine(Protocol):
    """Whatever predicts for images or clips; safe to call from several threads."""

    name: str
    version: str

    def __call__(self, image: np.ndarray) -> Outputs:
        """The outputs for (N, height, width, channels) images, or (N, T, height, width, channels)
        clips, in their own type; raises `EngineError`."""


_LIVING: weakref.WeakSet[_FromFile] = weakref.WeakSet()


def _forget_all() -> None:
    for engine in tuple(_LIVING):
        engine.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


class _FromFile:
    """What is alike in all engines: they are made from a file and a number of threads, and made
    again from them wherever their own threads are not: behind a pickle, and in a forked process,
    where waiting for them would never end."""

    name: str
    version: str

    def __init__(self, source: Path | bytes, threads: int = 0, kind: Kind | None = None) -> None:
        self._source, self._threads, self._kind = source, threads, kind
        # of the outputs that are run, as far as the graph says them
        self.shapes: dict[str, tuple[int | None, ...]] = {}
        self._opening = threading.Lock()
        self._start()
        _LIVING.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return make_engine, (self.name, self._source, self._threads, self._kind)

    def __call__(self, image: np.ndarray) -> Outputs:
        """See `Engine`."""
        if not self._ready:
            try:
                with self._opening:
                    if not self._ready:
                        self._start()
            except ValueError as error:  # the file has changed or is gone
                raise EngineError(str(error)) from None
        return self._run(image)

    def _start(self) -> None:
        self._open(self._source, self._threads or usable_cores())
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
        self.shapes = {
            name: tuple(size if isinstance(size, int) else None for size in shape)
            for name, shape in outputs.items()
            if self._kind is None or name in wanted
        }

    def _open(self, source: Path | bytes, threads: int) -> None:
        raise NotImplementedError

    def _run(self, image: np.ndarray) -> Outputs:
        raise NotImplementedError


class OnnxRuntimeEngine(_FromFile):
    """ONNX Runtime on the CPU; see `make_engine`."""

    name = "onnxruntime"
    title = "ONNX Runtime"

    def _open(self, source: Path | bytes, threads: int) -> None:
        onnxruntime = import_onnxruntime()
        from onnxruntime.capi import onnxruntime_pybind11_state as errors

        self.version = str(onnxruntime.__version__)
        self._errors: tuple[type[Exception], ...] = tuple(  # they have no base of their own
            kind
            for kind in vars(errors).values()
            if isinstance(kind, type) and issubclass(kind, Exception)
        )
        # the last for names that are not UTF-8
        refusals: tuple[type[Exception], ...] = (*self._errors, UnicodeDecodeError)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what matters arrives as an exception
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Kept memory is for inputs of one size. With images of many sizes it only grows: after
        # one of 24 megapixels 750 MB stay in use instead of 350 MB, and no prediction is faster.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        # Waiting threads would spin, on the cores that decode the next images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            # it would print, and try the same again
            self._session = onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            outputs = {output.name: output.shape for output in self._session.get_outputs()}
            inputs = [entry.name for entry in self._session.get_inputs()]
        except refusals as error:
            raise ValueError(_cannot_run(self, source, error)) from None
        self._choose(inputs, outputs)

    def _run(self, image: np.ndarray) -> Outputs:
        try:
            found = self._session.run(list(self.shapes), {self._input: image})
        except self._errors as error:
            raise EngineError(_reason(error)) from None
        return dict(zip(self.shapes, found, strict=True))


class OpenVinoEngine(_FromFile):
    """OpenVINO on the CPU, in float32 even where the processor has a shorter type; see
    `make_engine`."""

    name = "openvino"
    title = "OpenVINO"

    def _open(self, source: Path | bytes, threads: int) -> None:
        openvino = import_openvino()
        self.version = str(openvino.__version__)
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
        }
        try:
            core = openvino.Core()
            model = core.compile_model(core.read_model(source), "CPU", options)
        except RuntimeError as error:
            raise ValueError(_cannot_run(self, source, error)) from None
        self._choose(
            [name for entry in model.inputs for name in entry.names & {*INPUTS} or {"?"}],
            {
                name: [None if dim.is_dynamic else dim.get_length() for dim in output.partial_shape]
                for output in model.outputs
                for name in output.names
            },
        )
        self._request = model.create_infer_request()
        self._outputs = {
            name: output for output in model.outputs for name in output.names & set(self.shapes)
        }
        self._lock = threading.Lock()  # a request holds one input at a time

    def _run(self, image: np.ndarray) -> Outputs:
        try:
            with self._lock:
                found = self._request.infer({self._input: image})  # copies
        except RuntimeError as error:
            raise EngineError(_reason(error)) from None
        return {name: found[output] for name, output in self._outputs.items()}


def import_onnxruntime() -> ModuleType:
    """The onnxruntime package, kept from the network; everything that uses it takes it from here.

    From 1.32 on, importing it writes a number for the device into the home folder and collects
    events for its maker, unless the environment says no before.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


def import_openvino() -> ModuleType:
    """The openvino package, kept from the network; everything that uses it takes it from here.

    Importing OpenVINO sends an event to its maker, unless a file in the home folder or the
    environment says no. Without the package that does the sending it falls back on its own stub:
    nothing is sent and no file is written.

    Raises:
        ValueError: It is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ModuleNotFoundError:
        raise ValueError(
            'the engine openvino is not installed; run: pip install "resnets[openvino]"'
        ) from None
    return openvino


ENGINES: dict[str, type[OnnxRuntimeEngine] | type[OpenVinoEngine]] = {
    engine.name: engine for engine in (OnnxRuntimeEngine, OpenVinoEngine)
}


def available_engines() -> list[str]:
    """Names of the engines that are installed; each is called as the package it needs."""
    return [name for name in ENGINES if importlib.util.find_spec(name)]


def make_engine(
    name: str, source: Path | bytes, threads: int = 0, kind: Kind | None = None
) -> OnnxRuntimeEngine | OpenVinoEngine:
    """The engine of this name for an ONNX file.

    Args:
        name: A key of `ENGINES`.
        source: The file, or all its bytes.
        threads: Threads of one prediction; 0 takes `usable_cores()`.
        kind: What the file predicts: the outputs to run, as far as they are there. None runs all.

    Raises:
        ValueError: There is no such engine, it is not installed, or it cannot run the file; no
            such number of threads; or the graph lacks what every one of the kind has.
    """
    if type(threads) is not int or not 0 <= threads <= MOST_THREADS:
        raise ValueError(
            f"threads is {threads!r}; allowed: 0 (all cores) or a whole number up to {MOST_THREADS}"
        )
    if name not in tuple(ENGINES):  # whatever its type
        raise ValueError(f"no engine is called {name!r}; allowed: {', '.join(ENGINES)}")
    return ENGINES[name](source, threads, kind)


def _cannot_run(engine: Engine, source: Path | bytes, error: Exception) -> str:
    file = "this file" if isinstance(source, bytes) else source
    return (
        f"{engine.name} {engine.version} cannot run {file} ({_reason(error)}); upgrade"
        f" {engine.name}, or take another engine"
    )


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
