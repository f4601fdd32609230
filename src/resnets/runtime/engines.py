"""What runs the graph: an engine is a callable from images to an `Answer`, with a name and a
version. `ENGINES` lists them."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np


class EngineError(RuntimeError):
    """An engine failed on one input, most often for want of memory; the message is the reason, fit
    for a table."""


@dataclass(frozen=True)
class Answer:
    """What a graph says of N images.

    Args:
        probabilities: (N, classes) float32, each row sums to 1.
        embedding: (N, features) float32, the pooled features, where the file gives them.
        heat: (N, classes, h, w) float32, class activation maps, where the file gives them.
    """

    probabilities: np.ndarray
    embedding: np.ndarray | None = None
    heat: np.ndarray | None = None


MOST_THREADS = 1024
OUTPUTS = tuple(field.name for field in fields(Answer))


class Engine(Protocol):
    """Whatever predicts for images; safe to call from several threads."""

    name: str
    version: str

    def __call__(self, image: np.ndarray) -> Answer:
        """The answer for (N, height, width, channels) images in their own type; raises
        `EngineError`."""


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

    def __init__(self, source: Path | bytes, threads: int = 0) -> None:
        self._source, self._threads = source, threads
        self._opening = threading.Lock()
        self._start()
        _LIVING.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return make_engine, (self.name, self._source, self._threads)

    def __call__(self, image: np.ndarray) -> Answer:
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

    def _check(self, inputs: Sequence[str], outputs: Mapping[str, Sequence[object]]) -> None:
        """What every file of ours has; sets `num_classes`, as far as the file says it."""
        shape = outputs.get("probabilities")
        if list(inputs) != ["image"] or shape is None:
            file = "this" if isinstance(self._source, bytes) else self._source
            raise ValueError(
                f"{file}: the graph does not go from `image` to `probabilities`: not a file of"
                " `resnets export`; make it with: resnets export RUN"
            )
        known = len(shape) == 2 and isinstance(shape[1], int)
        self.num_classes: int | None = int(str(shape[1])) if known else None

    def _open(self, source: Path | bytes, threads: int) -> None:
        raise NotImplementedError

    def _run(self, image: np.ndarray) -> Answer:
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
        self._check(inputs, outputs)
        self._outputs = [name for name in outputs if name in OUTPUTS]

    def _run(self, image: np.ndarray) -> Answer:
        try:
            return Answer(
                **dict(
                    zip(
                        self._outputs,
                        self._session.run(self._outputs, {"image": image}),
                        strict=True,
                    )
                )
            )
        except self._errors as error:
            raise EngineError(_reason(error)) from None


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
        self._check(
            [name for entry in model.inputs for name in entry.names & {"image"} or {"?"}],
            {
                name: [None if dim.is_dynamic else dim.get_length() for dim in output.partial_shape]
                for output in model.outputs
                for name in output.names
            },
        )
        self._request = model.create_infer_request()
        self._outputs = {
            name: output for output in model.outputs for name in output.names & set(OUTPUTS)
        }
        self._lock = threading.Lock()  # a request holds one input at a time

    def _run(self, image: np.ndarray) -> Answer:
        try:
            with self._lock:
                found = self._request.infer({"image": image})  # copies
        except RuntimeError as error:
            raise EngineError(_reason(error)) from None
        return Answer(**{name: found[output] for name, output in self._outputs.items()})


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


def make_engine(name: str, source: Path | bytes, threads: int = 0) -> Engine:
    """The engine of this name for an ONNX file.

    Args:
        name: A key of `ENGINES`.
        source: The file, or all its bytes.
        threads: Threads of one prediction; 0 takes `usable_cores()`.

    Raises:
        ValueError: There is no such engine, it is not installed, or it cannot run the file; or no
            such number of threads.
    """
    if type(threads) is not int or not 0 <= threads <= MOST_THREADS:
        raise ValueError(
            f"threads is {threads!r}; allowed: 0 (all cores) or a whole number up to {MOST_THREADS}"
        )
    if name not in tuple(ENGINES):  # whatever its type
        raise ValueError(f"no engine is called {name!r}; allowed: {', '.join(ENGINES)}")
    return ENGINES[name](source, threads)


def usable_cores() -> int:
    """Physical cores this process may use: those it is bound to, and no more than its container's
    quota."""
    processors = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    siblings = (
        Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        for number in processors
    )
    cores = len({file.read_text() if file.exists() else str(file) for file in siblings})
    # "200000 100000": microseconds of processor time in a period, or "max"
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        time, period = quota.read_text().split()
        cores = cores if time == "max" else min(cores, max(1, int(time) // int(period)))
    return cores


def _cannot_run(engine: Engine, source: Path | bytes, error: Exception) -> str:
    file = "this file" if isinstance(source, bytes) else source
    return (
        f"{engine.name} {engine.version} cannot run {file} ({_reason(error)}); upgrade"
        f" {engine.name}, or take another engine"
    )


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
