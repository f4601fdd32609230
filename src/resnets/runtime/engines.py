"""What runs the graph: an engine is a callable from pictures to an `Answer`, with a name and a
version. `ENGINES` lists them."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np


class EngineError(RuntimeError):
    """An engine failed on one input, most often for want of memory; the message is the reason, fit
    for a table."""


@dataclass(frozen=True)
class Answer:
    """What a graph says of N pictures.

    Args:
        probabilities: (N, classes) float32, each row sums to 1.
        embedding: (N, features) float32, the pooled features, where the file gives them.
        heat: (N, classes, h, w) float32, class activation maps, where the file gives them.
    """

    probabilities: np.ndarray
    embedding: np.ndarray | None = None
    heat: np.ndarray | None = None


OUTPUTS = tuple(field.name for field in fields(Answer))


class Engine(Protocol):
    """Whatever answers for pictures; safe to call from several threads."""

    name: str
    version: str

    def __call__(self, image: np.ndarray) -> Answer:
        """The answer for (N, height, width, channels) pictures in their own type; raises
        `EngineError`."""


class OnnxRuntimeEngine:
    """ONNX Runtime on the CPU; see `make_engine`."""

    name = "onnxruntime"

    def __init__(self, source: Path | bytes, threads: int = 0) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as errors

        self.version = str(onnxruntime.__version__)
        self._errors = (errors.Fail, errors.RuntimeException, errors.InvalidArgument)
        refusals = (
            *self._errors,
            errors.InvalidGraph,
            errors.InvalidProtobuf,
            errors.NotImplemented,
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what matters arrives as an exception
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        # Kept memory is for inputs of one size. With pictures of many sizes it only grows: after
        # one of 24 megapixels 750 MB stay in use instead of 350 MB, and no prediction is faster.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        # Waiting threads would spin, on the cores that decode the next pictures.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"]
            )
        except refusals as error:
            raise ValueError(_cannot_run(self, error)) from None
        self._outputs = [
            output.name for output in self._session.get_outputs() if output.name in OUTPUTS
        ]

    def __call__(self, image: np.ndarray) -> Answer:
        """See `Engine`."""
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


class OpenVinoEngine:
    """OpenVINO on the CPU, in float32 even where the processor has a shorter type; see
    `make_engine`."""

    name = "openvino"

    def __init__(self, source: Path | bytes, threads: int = 0) -> None:
        openvino = import_openvino()
        self.version = str(openvino.__version__)
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads or usable_cores(),
        }
        try:
            core = openvino.Core()
            model = core.compile_model(core.read_model(source), "CPU", options)
        except RuntimeError as error:
            raise ValueError(_cannot_run(self, error)) from None
        self._request = model.create_infer_request()
        self._outputs = {
            name: output for output in model.outputs for name in output.names & set(OUTPUTS)
        }
        self._lock = threading.Lock()  # a request holds one input at a time

    def __call__(self, image: np.ndarray) -> Answer:
        """See `Engine`."""
        try:
            with self._lock:
                found = self._request.infer({"image": image})  # copies
        except RuntimeError as error:
            raise EngineError(_reason(error)) from None
        return Answer(**{name: found[output] for name, output in self._outputs.items()})


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
        ValueError: There is no such engine, it is not installed, or it cannot run the file.
    """
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
    quota = Path(
        "/sys/fs/cgroup/cpu.max"
    )  # "200000 100000": microseconds of processor time in a period, or "max"
    if quota.exists():
        time, period = quota.read_text().split()
        cores = cores if time == "max" else min(cores, max(1, int(time) // int(period)))
    return cores


def _cannot_run(engine: Engine, error: Exception) -> str:
    return (
        f"{engine.name} {engine.version} cannot run this file ({_reason(error)}); upgrade"
        f" {engine.name}, or take another engine"
    )


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
