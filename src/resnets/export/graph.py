"""The exported graph: an image of any size in, the prediction out. The arithmetic of
`Preprocessing` as ONNX nodes.

Resizing is two matrix products, one for each side, whose weights are computed in the graph from the
input's shape: ONNX's own antialiased Resize differs between engines. Sums are rounded after each
side as Pillow rounds them, so the result stays within one grey level of Pillow's and nearly always
equals it.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout

import numpy as np
import onnx
import torch
from onnxscript import ir
from torch import nn

from resnets.export.inverse import IN_INPUT, bring_back
from resnets.export.nodes import Nodes
from resnets.kinds import Kind
from resnets.preprocessing import Preprocessing
from resnets.sampling import Sampling

# the first with ReduceSum/ReduceMax axes as inputs throughout; all engines in use today read it
OPSET = 18


def build_graph(
    inference: nn.Module,
    preprocessing: Preprocessing,
    kind: Kind,
    sampling: Sampling | None = None,
) -> ir.Model:
    """The network with its preprocessing in front: uint8 (N, H, W, C), or clips (N, T, H, W, C), to
    the outputs of the kind, as many as the network gives, places among them in pixels of the image.

    Args:
        inference: Normalised images to a tuple of tensors (`Task.inference`).
        preprocessing: How images become its input.
        kind: What it predicts.
        sampling: How many images a clip has, where it takes clips.
    """
    frames = (sampling.frames,) if sampling else ()
    example = torch.zeros(2, preprocessing.channels, *frames, *preprocessing.size)
    model = _trace(inference, example, kind)
    (network_input,) = model.graph.inputs
    shape = ir.Shape(["N", *frames, "H", "W", preprocessing.channels])
    image = ir.val(
        kind.takes,
        ir.DataType.UINT8 if preprocessing.value_range == 255 else ir.DataType.UINT16,
        shape,
    )
    front = Front(preprocessing)
    if sampling:
        prepared = front.together(
            front.normalise(front.pixels(front.alone(image))), sampling.frames
        )
    else:
        prepared = front.normalise(front.pixels(image))
    prepared.name = "prepared"
    network_input.replace_all_uses_with(prepared)
    model.graph.inputs[0] = image
    model.graph.insert_before(model.graph[0], front.nodes.tape.nodes)
    bring_back(model.graph, kind, Front(preprocessing), image)
    return model


def _trace(inference: nn.Module, example: torch.Tensor, kind: Kind) -> ir.Model:
    with _quiet(), torch.no_grad():
        names = list(kind.outputs)[: len(inference(example))]
        program = torch.onnx.export(
            inference,
            (example,),
            dynamo=True,
            input_names=["prepared"],
            output_names=names,
            dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    return program.model


class Front:
    """Nodes from the image to the normalised input; each method mirrors one of
    `Preprocessing`."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self.nodes = Nodes()
        self.constant = self.nodes.constant

    def pixels(self, image: ir.Value) -> ir.Value:
        """(N, H, W, C) to (N, C, height, width) float32, in stored grey levels."""
        op = self.nodes
        height, width = self.side(image, 1), self.side(image, 2)
        (row_weights, rows), (column_weights, columns) = [
            self._weights(length, resized, size)
            for length, resized, size in zip(
                (height, width), self.resized(height, width), self.preprocessing.size, strict=True
            )
        ]
        planes = op.Cast(op.Transpose(image, perm=[0, 3, 1, 2]), to=ir.DataType.FLOAT.value)
        # as Pillow: horizontal first
        out = self._rounded(op.MatMul(planes, op.Transpose(column_weights, perm=[1, 0])))
        out = self._rounded(op.MatMul(row_weights, out))
        if self.preprocessing.fit != "pad":
            return out
        inside = op.And(rows, op.Transpose(columns, perm=[1, 0]))
        return op.Where(inside, out, self.constant(self.preprocessing.pad_color))

    def normalise(self, pixels: ir.Value) -> ir.Value:
        """Stored grey levels to what the network takes."""
        op, value = self.nodes, self.preprocessing
        mean = self.constant(np.asarray(value.mean).reshape(1, -1, 1, 1) * value.value_range)
        scale = self.constant(np.asarray(value.std).reshape(1, -1, 1, 1) * value.value_range)
        return op.Div(op.Sub(pixels, mean), scale)

    def alone(self, clips: ir.Value) -> ir.Value:
        """Clips (N, T, H, W, C) to their images (N T, H, W, C)."""
        op = self.nodes
        sides = op.Shape(clips, start=2, end=5)
        return op.Reshape(clips, op.Concat(self.constant([-1], np.int64), sides, axis=0))

    def together(self, images: ir.Value, frames: int) -> ir.Value:
        """Prepared images (N T, C, height, width) to clips (N, C, T, height, width)."""
        op, value = self.nodes, self.preprocessing
        shape = [-1, frames, value.channels, *value.size]
        clips = op.Reshape(images, self.constant(np.array(shape), np.int64))
        return op.Transpose(clips, perm=[0, 2, 1, 3, 4])

    def side(self, image: ir.Value, axis: int) -> ir.Value:
        """The length of one side of the image, int64."""
        op = self.nodes
        return op.Squeeze(op.Shape(image, start=axis, end=axis + 1))

    def resized(self, height: ir.Value, width: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Both sides of the scaled image in whole numbers: `Preprocessing.axes`."""
        op, value = self.nodes, self.preprocessing
        box = value.resize if value.fit == "crop" else value.size
        box_h, box_w = (self.constant(side, np.int64) for side in box)
        if value.fit == "stretch":
            return box_h, box_w
        wide = op.GreaterOrEqual(op.Mul(width, box_h), op.Mul(height, box_w))
        one = self.constant(1, np.int64)
        scaled_h = op.Max(op.Div(op.Mul(height, box_w), width), one)
        scaled_w = op.Max(op.Div(op.Mul(width, box_h), height), one)
        if value.fit == "crop":  # cover the box: the tighter side fixes the scale
            return op.Where(wide, box_h, scaled_h), op.Where(wide, scaled_w, box_w)
        return op.Where(wide, scaled_h, box_h), op.Where(wide, box_w, scaled_w)

    def offset(self, resized: ir.Value, size: int, half: ir.Value) -> ir.Value:
        """Where the input begins in the scaled image, float32: half to even, as Python's round."""
        op = self.nodes
        return op.Round(op.Mul(op.Sub(resized, self.constant(float(size))), half))

    def _weights(self, length: ir.Value, resized: ir.Value, size: int) -> tuple[ir.Value, ir.Value]:
        """One `Axis` as a matrix (size, length) of antialiased weights, and which of its rows show
        the image (size, 1)."""
        op = self.nodes
        as_float = ir.DataType.FLOAT.value
        length_f, resized_f = op.Cast(length, to=as_float), op.Cast(resized, to=as_float)
        half, one, zero = self.constant(0.5), self.constant(1.0), self.constant(0.0)
        offset = self.offset(resized_f, size, half)
        place = op.Add(self.constant(np.arange(size).reshape(-1, 1)), offset)
        scale = op.Div(length_f, resized_f)
        center = op.Mul(op.Add(place, half), scale)
        source = op.Add(
            op.Cast(
                op.Range(self.constant(0, np.int64), length, self.constant(1, np.int64)),
                to=as_float,
            ),
            half,
        )
        distance = op.Div(op.Abs(op.Sub(source, center)), op.Max(scale, one))
        inside = op.And(op.GreaterOrEqual(place, zero), op.Less(place, resized_f))
        weights = op.Where(inside, self._kernel(distance), zero)
        total = op.ReduceSum(weights, self.constant([1], np.int64), keepdims=1)
        return op.Div(weights, op.Where(inside, total, one)), inside

    def _kernel(self, distance: ir.Value) -> ir.Value:
        """Pillow's filters: a triangle, or Keys' cubic with a = -0.5."""
        op = self.nodes
        zero, one = self.constant(0.0), self.constant(1.0)
        if self.preprocessing.interpolation == "bilinear":
            return op.Max(op.Sub(one, distance), zero)
        near = op.Add(
            op.Mul(
                op.Mul(op.Sub(op.Mul(distance, self.constant(1.5)), self.constant(2.5)), distance),
                distance,
            ),
            one,
        )
        tail = op.Sub(op.Mul(op.Sub(self.constant(5.0), distance), distance), self.constant(8.0))
        far = op.Mul(op.Add(op.Mul(tail, distance), self.constant(4.0)), self.constant(0.5))
        return op.Where(
            op.Less(distance, one), near, op.Where(op.Less(distance, self.constant(2.0)), far, zero)
        )

    def _rounded(self, values: ir.Value) -> ir.Value:
        """To whole grey levels, half upwards, within the range: what Pillow stores between the
        sides."""
        op = self.nodes
        up = op.Floor(op.Add(values, self.constant(0.5)))
        return op.Clip(up, self.constant(0.0), self.constant(float(self.preprocessing.value_range)))


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's remarks about its own internals are not for users."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def to_bytes(model: ir.Model, metadata: str) -> bytes:
    """The graph with its metadata, checked, as the bytes of one file."""
    model.metadata_props.clear()
    model.metadata_props["resnets"] = metadata
    for node in model.graph:
        # the exporter's notes on where in Python each node came from: no use, and paths in it
        node.metadata_props.clear()
        node.doc_string = None
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    return proto.SerializeToString(deterministic=True)


def front(model: bytes) -> bytes:
    """The nodes of a whole graph that lie before its network, as a graph of their own, whose one
    output is `prepared`, the input of the network."""
    proto = onnx.load_model_from_string(model)
    # as many dimensions as the input has
    (entry,) = proto.graph.input
    shape = ["N", *(None for _ in entry.type.tensor_type.shape.dim[1:])]
    output = onnx.helper.make_tensor_value_info("prepared", onnx.TensorProto.FLOAT, shape)
    return _part(proto, [output], {})


def back(model: bytes, places: Mapping[str, np.ndarray]) -> bytes:
    """The nodes of a whole graph that lie behind its network, as a graph of their own, from the
    image alone to outputs that are places in it.

    Args:
        model: The whole graph.
        places: By the name of the output, the places in the input to be brought back to the image.
    """
    proto = onnx.load_model_from_string(model)
    outputs = [output for output in proto.graph.output if output.name in places]
    return _part(proto, outputs, {f"{name}{IN_INPUT}": array for name, array in places.items()})


def _part(
    proto: onnx.ModelProto,
    outputs: Sequence[onnx.ValueInfoProto],
    known: Mapping[str, np.ndarray],
) -> bytes:
    """What of a graph leads from the image, and from values that are known, to some outputs."""
    needed = {output.name for output in outputs}
    nodes: list[onnx.NodeProto] = []
    for node in reversed(proto.graph.node):
        if needed.intersection(node.output) and not set(known).intersection(node.output):
            needed.update(node.input)
            nodes.insert(0, node)
    values = [onnx.numpy_helper.from_array(array, name) for name, array in known.items()]
    graph = onnx.helper.make_graph(nodes, "part", list(proto.graph.input), outputs, values)
    part = onnx.helper.make_model(
        graph, opset_imports=list(proto.opset_import), ir_version=proto.ir_version
    )
    return part.SerializeToString()
