"""A float32 graph to one in int8: weights and activations of the layers between `prepared` and the
last layer. Preprocessing, the last layer, what decodes its outputs, and what lies between layers
without being read by one stay in float32.

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
    _keep_float(found.graph, set(chosen))
    return found


def quantised_nodes(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that are computed in int8: layers of the network but the last ones, and
    what lies between two layers with nothing else behind it."""
    weights = {tensor.name for tensor in graph.initializer}
    computed, network = {PREPARED}, []
    for node in graph.node:
        if computed.intersection(node.input):
            computed.update(node.output)
            network.append(node)
    leading: set[str] = set()  # values on the way to a layer
    read: set[str] = set()  # values that a node in int8 takes
    chosen = []
    for node in reversed(network):
        leads = bool(leading.intersection(node.output))
        is_layer = node.op_type in LAYERS and node.input[1] in weights
        # a sum with a constant belongs to a norm
        is_between = node.op_type in BETWEEN and computed.issuperset(node.input)
        if (leads and is_layer) or (is_between and read.intersection(node.output)):
            chosen.append(node.name)
            read.update(node.input)
        if leads or is_layer:
            leading.update(node.input)
    return chosen[::-1]


def _keep_float(graph: onnx.GraphProto, chosen: set[str]) -> None:
    """Takes QuantizeLinear and DequantizeLinear away from what a layer gives where no node in int8
    reads it: it would be rounded for nothing, and of several clips OpenVINO 2026.4 gives wrong
    means over such values."""
    made = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for restored in [node for node in graph.node if node.op_type == "DequantizeLinear"]:
        rounded, own = made.get(restored.input[0]), readers.get(restored.output[0], [])
        if rounded is None or chosen.intersection(node.name for node in own):
            continue  # of a weight, or read in int8
        for node in own:
            for place, name in enumerate(node.input):
                if name == restored.output[0]:
                    node.input[place] = rounded.input[0]
        graph.node.remove(restored)
        graph.node.remove(rounded)


class _Inputs:
    """Inputs one after the other, as `quantize_static` asks for them."""

    def __init__(self, name: str, inputs: Sequence[np.ndarray]) -> None:
        self._left: Iterator[dict[str, np.ndarray]] = ({name: array} for array in inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next one; None after the last."""
        return next(self._left, None)
