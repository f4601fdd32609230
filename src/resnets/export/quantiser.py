"""A float32 graph to one in int8: weights and activations of the layers between `prepared` and the
last layer. Preprocessing, the last layer and what decodes its outputs stay in float32.

Each value that is quantised goes through QuantizeLinear and DequantizeLinear (QDQ), which engines
fuse with the layers around them. ResNets need no preparation: export has folded their norms.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

from resnets.runtime.packages import import_onnxruntime

PREPARED = "prepared"  # the value between the preprocessing and the network
LAYERS = ("Conv", "Gemm", "MatMul")  # with weights
BETWEEN = ("Add", "Relu", "MaxPool")  # computed in int8 where they lie between two layers
METHOD = "mean over images of the smallest and the largest value of each activation"


def quantise(content: bytes, inputs: Sequence[np.ndarray]) -> onnx.ModelProto:
    """A graph in int8, without metadata.

    Args:
        content: Of a file of `resnets export`.
        inputs: What the graph takes, for images from which the ranges of activations are taken.

    Raises:
        ValueError: It has no layer that could be quantised.
    """
    import_onnxruntime()
    before = list(sys.path)
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    sys.path[:] = before  # it adds a folder with modules of very common names

    model = onnx.load_model_from_string(content)
    del model.metadata_props[:]
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"  # nodes are chosen by their names
    chosen = quantised_nodes(model.graph)
    if not chosen:
        raise ValueError("int8: the network has no layer before its last one, so nothing to gain")
    add_pre_process_metadata(model)  # norms are folded: it would advise to do so
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, given)
        with contextlib.redirect_stdout(io.StringIO()):  # it tells of its steps
            quantize_static(
                given,
                made,
                _Inputs(model.graph.input[0].name, inputs),
                op_types_to_quantize=[*LAYERS, *BETWEEN],
                nodes_to_quantize=chosen,
                per_channel=True,
                extra_options={"CalibMovingAverage": True},  # one odd image widens no range
                # Weights of 7 bits: sums of two products with 8 bits overflow the 16 bits in which
                # processors without VNNI add them up, and the file is for every processor.
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        found = onnx.load(made)
    del found.metadata_props[:]
    return found


def quantised_nodes(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that are computed in int8: layers of the network but the last ones, and
    what lies between two layers."""
    weights = {tensor.name for tensor in graph.initializer}
    computed, network = {PREPARED}, []
    for node in graph.node:
        if computed.intersection(node.input):
            computed.update(node.output)
            network.append(node)
    leading: set[str] = set()  # values on the way to a layer
    chosen = []
    for node in reversed(network):
        leads = bool(leading.intersection(node.output))
        is_layer = node.op_type in LAYERS and node.input[1] in weights
        # a sum with a constant belongs to a norm
        is_between = node.op_type in BETWEEN and computed.issuperset(node.input)
        if leads and (is_layer or is_between):
            chosen.append(node.name)
        if leads or is_layer:
            leading.update(node.input)
    return chosen[::-1]


class _Inputs:
    """Inputs one after the other, as `quantize_static` asks for them."""

    def __init__(self, name: str, inputs: Sequence[np.ndarray]) -> None:
        self._left: Iterator[dict[str, np.ndarray]] = ({name: array} for array in inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next one; None after the last."""
        return next(self._left, None)
