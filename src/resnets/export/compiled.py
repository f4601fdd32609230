"""A module as OpenVINO computes it: for many images and no gradients, where it is installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnets.runtime.engines import available_engines
from resnets.runtime.packages import import_openvino

# Of the largest number: by how much numbers may differ from those of PyTorch
ALIKE = {"f32": 1e-3, "bf16": 5e-2}
# What tracing a module from outside may raise, and what OpenVINO raises at what it cannot convert
FAULTS = RuntimeError, TypeError, ValueError, AttributeError
FAILURES = "General", "Initialization", "NotImplemented", "OpConversion", "OpValidation"

Compute = Callable[[Tensor], Tensor]


def compile_module(module: nn.Module, example: Tensor, short: bool) -> Compute | None:
    """The module for inputs of one shape, on the CPU, in as many threads as PyTorch has. ResNet-18
    at 224 px came to 122 images a second, in PyTorch to 90 (bfloat16, channels last; two cores
    without AMX).

    Args:
        module: In eval mode, on the CPU; from one tensor to one tensor.
        example: Images (N, C, H, W), the largest number of them that will come at once.
        short: Whether it computes in bfloat16.

    Returns:
        From inputs, no more than in the example, to outputs. None where OpenVINO is not installed,
        cannot run the module, or does not compute what PyTorch does.
    """
    if "openvino" not in available_engines():
        return None
    openvino, precision = import_openvino(), "bf16" if short else "f32"
    from openvino import frontend
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    faults = (*FAULTS, *(getattr(frontend, f"{name}Failure") for name in FAILURES))
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of what shapes are compared with, and of TorchScript
            traced = torch.jit.trace(module, example[:1], check_trace=False)
            expected = module(example[:8])
        front = frontend.FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced)  # the front end does not keep it alive
        graph = front.convert(front.load(decoder))
        graph.reshape(list(example.shape))
        graph = _channels_last(openvino, graph)
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        compiled = openvino.Core().compile_model(graph, "CPU", options)

        def compute(inputs: Tensor) -> Tensor:
            missing = len(example) - len(inputs)
            full = F.pad(inputs, (0, 0) * 3 + (0, missing)) if missing else inputs
            pixels = full.permute(0, 2, 3, 1).contiguous().numpy()
            return torch.from_numpy(compiled([pixels])[0][: len(inputs)].copy())

        difference = (compute(example[:8]) - expected).abs().max()
    except faults:
        return None
    return compute if difference <= ALIKE[precision] * expected.abs().max() else None


def _channels_last(openvino: ModuleType, graph: Any) -> Any:
    """The same graph with inputs in the order in which images lie in memory, so that none is
    turned around on the way in."""
    steps = openvino.preprocess.PrePostProcessor(graph)
    steps.input().tensor().set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    return steps.build()
