"""What runs an exported graph: `ENGINES` lists them, `make_engine` opens them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from resnets.kinds import Kind
from resnets.kinds.prediction import Outputs
from resnets.runtime.cores import usable_cores
from resnets.runtime.file_engine import INPUTS, Engine, EngineError, FileEngine, Shape
from resnets.runtime.packages import import_onnxruntime, import_openvino
from resnets.runtime.selection import select_pixels

MOST_THREADS = 1024
AUTO = "auto"  # in the place of a name: whichever is faster
PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}  # with OpenVINO's names
SPELLINGS = {"bf16": "bfloat16"}  # other names of precisions, with the ones used here


class OnnxRuntimeEngine(FileEngine):
    """ONNX Runtime on the CPU; see `make_engine`."""

    name = "onnxruntime"
    title = "ONNX Runtime"
    precisions = ("float32",)
    prunes = False

    def _open(self, source: Path | bytes, threads: int, shape: Shape | None) -> None:
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
        options.enable_cpu_mem_arena = options.enable_mem_pattern = shape is not None
        # Where the size is known, threads that wait spin, which gains single images 5 % and costs
        # folders with --exact about 4 % (ResNet-18 and 50, two cores), since other cores decode
        # meanwhile. Engines for batches have one thread, which waits for nobody.
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(bool(shape))))
        if shape:
            for name, size in (("N", shape[0]), ("H", shape[-3]), ("W", shape[-2])):
                options.add_free_dimension_override_by_name(name, size)
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


class OpenVinoEngine(FileEngine):
    """OpenVINO on the CPU, in float32 unless it is told otherwise, even where the processor has a
    shorter type, and where it has none; see `make_engine`."""

    name = "openvino"
    title = "OpenVINO"
    precisions = ("float32", "bfloat16")
    prunes = True

    def _open(self, source: Path | bytes, threads: int, shape: Shape | None) -> None:
        openvino = import_openvino()
        self.version = str(openvino.__version__)
        core = openvino.Core()
        if self.precision == "bfloat16" and not has_bfloat16(core):
            self.precision = "float32"  # some processors would only imitate it, slowly
        # calls that are computed side by side; those who wait share the cores with who decodes
        requests = max(1, usable_cores() // threads) if shape else 1
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": PRECISIONS[self.precision],
            "INFERENCE_NUM_THREADS": requests * threads,
        }
        if shape:
            options |= {"NUM_STREAMS": requests, "ENABLE_CPU_PINNING": False}
        try:
            graph = self._read(core, source, shape)
            model = core.compile_model(graph, "CPU", options)
        except RuntimeError as error:
            raise ValueError(_cannot_run(self, source, error)) from None
        self._outputs = {
            name: output for output in model.outputs for name in output.names & set(self.shapes)
        }
        self._requests: SimpleQueue[Any] = SimpleQueue()  # each holds one input at a time
        for _ in range(requests):
            self._requests.put(model.create_infer_request())

    def _read(self, core: Any, source: Path | bytes, shape: Shape | None) -> Any:
        """The graph, with nothing in it that changes or gives nothing."""
        graph = core.read_model(source)
        if shape:
            graph.reshape(list(shape))
            select_pixels(graph)
        elif any(node.get_type_name() == "FakeQuantize" for node in graph.get_ops()):
            file = "this file" if isinstance(source, bytes) else source
            # it has been seen to give wrong predictions then, and no error
            raise ValueError(
                f"{file}: a graph in int8, which {self.name} runs for images of one size alone;"
                " open it with resnets.load, or make the engine with a shape"
            )
        self._choose(
            [name for entry in graph.inputs for name in entry.names & {*INPUTS} or {"?"}],
            {
                name: [None if dim.is_dynamic else dim.get_length() for dim in one.partial_shape]
                for one in graph.outputs
                for name in one.names
            },
        )
        for result, output in zip(graph.get_results(), graph.outputs, strict=True):
            if not output.names & set(self.shapes):
                graph.remove_result(result)
        return graph

    def _run(self, image: np.ndarray) -> Outputs:
        request = self._requests.get()
        try:
            found = request.infer({self._input: image})  # copies
        except RuntimeError as error:
            raise EngineError(_reason(error)) from None
        finally:
            self._requests.put(request)
        return {name: found[output] for name, output in self._outputs.items()}


def has_bfloat16(core: Any) -> bool:
    """Whether the processor has instructions for bfloat16, as OpenVINO knows it."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


_ALL: tuple[type[FileEngine], ...] = (OnnxRuntimeEngine, OpenVinoEngine)
ENGINES = {engine.name: engine for engine in _ALL}


def available_engines() -> list[str]:
    """Names of the engines that are installed; each is called as the package it needs."""
    return [name for name in ENGINES if importlib.util.find_spec(name)]


def engines_for(precision: str) -> list[str]:
    """Names of the engines that files of a precision are made for, the first one first: those that
    compute in it, or all where it is part of the graph, as int8 is."""
    return [name for name, engine in ENGINES.items() if precision in engine.precisions] or [
        *ENGINES
    ]


def precision_in(name: object, precision: str) -> str:
    """In what an engine computes a file of some precision: in the same, if it can, else in
    float32."""
    able = [engine.name for engine in _ALL if precision in engine.precisions]
    return precision if name in able else "float32"


def make_engine(
    name: str,
    source: Path | bytes,
    threads: int = 0,
    kind: Kind | None = None,
    shape: Shape | None = None,
    precision: str = "float32",
) -> FileEngine:
    """The engine of this name for an ONNX file.

    Args:
        name: A key of `ENGINES`.
        source: The file, or all its bytes.
        threads: Threads of one prediction; 0 takes `usable_cores()`.
        kind: What the file predicts: the outputs to run, as far as they are there. None runs all.
        shape: (N, height, width, channels) of all that will come: the graph is compiled for it
            alone; more images come in several batches, and the last batch is filled up. None takes
            images of any size.
        precision: A key of `PRECISIONS`, in which it computes, or in float32 where the processor
            lacks it; outputs are float32.

    Raises:
        ValueError: There is no such engine, it is not installed, or it cannot run the file, or not
            in this precision; no such number of threads; or the graph lacks what every one of the
            kind has.
    """
    if type(threads) is not int or not 0 <= threads <= MOST_THREADS:
        raise ValueError(
            f"threads is {threads!r}; allowed: 0 (all cores) or a whole number up to {MOST_THREADS}"
        )
    if name not in tuple(ENGINES):  # whatever its type
        raise ValueError(f"no engine is called {name!r}; allowed: {', '.join((AUTO, *ENGINES))}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; allowed: {', '.join(PRECISIONS)}")
    if precision not in ENGINES[name].precisions:
        raise ValueError(
            f"{name} computes in {' or '.join(ENGINES[name].precisions)} alone; {precision}: take"
            f" the engine {' or '.join(engines_for(precision))}"
        )
    return ENGINES[name](source, threads, kind, shape, precision)


def _cannot_run(engine: Engine, source: Path | bytes, error: Exception) -> str:
    file = "this file" if isinstance(source, bytes) else source
    return (
        f"{engine.name} {engine.version} cannot run {file} ({_reason(error)}); upgrade"
        f" {engine.name}, or take another engine"
    )


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
