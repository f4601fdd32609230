"""ONNX nodes written as calls."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnxscript import ir


class Nodes:
    """`nodes.MatMul(a, b, axis=1)` adds an ONNX node and gives its output."""

    def __init__(self) -> None:
        self.tape = ir.tape.Tape()

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        return lambda *inputs, **attributes: self.tape.op(op_type, inputs, attributes)

    def constant(
        self, value: float | list[float] | np.ndarray, dtype: type = np.float32
    ) -> ir.Value:
        """A number or a list of them."""
        return self.Constant(value=ir.tensor(np.asarray(value, dtype)))
