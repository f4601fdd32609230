"""The inverse transform as ONNX nodes: places in the input of the network become places in the
image. Each method mirrors one of `kinds.inverse.InverseTransform`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from onnxscript import ir

from resnets.kinds import Kind

if TYPE_CHECKING:
    from resnets.export.graph import Front

IN_INPUT = "_in_input"  # ends the name of an output that is a place, before it is brought back
FLOAT, INT = ir.DataType.FLOAT.value, ir.DataType.INT64.value


class Side(NamedTuple):
    """One `kinds.axis.Axis`, its numbers as values of the graph."""

    length: ir.Value
    resized: ir.Value
    offset: ir.Value
    size: int


class Inverse:
    """Nodes from the input of a network back to its image.

    Args:
        front: Nodes to add to, with the arithmetic of the way there.
        image: The input of the graph, (N, H, W, C).
    """

    def __init__(self, front: Front, image: ir.Value) -> None:
        self.front, self.nodes = front, front.nodes
        lengths = front.side(image, 1), front.side(image, 2)
        half = self.nodes.constant(0.5)
        self.vertical, self.horizontal = (
            Side(
                length, resized, front.offset(self.nodes.Cast(resized, to=FLOAT), size, half), size
            )
            for length, resized, size in zip(
                lengths, front.resized(*lengths), front.preprocessing.size, strict=True
            )
        )

    def points(self, xy: ir.Value) -> ir.Value:
        """(..., 2k) float32, x and y in turn, moved to the border where they lie outside."""
        op = self.nodes
        assert xy.shape is not None
        repeats = xy.shape[-1]
        assert isinstance(repeats, int), "as many places for every image"
        sides = [self.horizontal, self.vertical] * (repeats // 2)
        lengths = self._vector([op.Cast(side.length, to=FLOAT) for side in sides])
        scale = op.Div(lengths, self._vector([op.Cast(side.resized, to=FLOAT) for side in sides]))
        found = op.Mul(op.Add(xy, self._vector([side.offset for side in sides])), scale)
        return op.Min(op.Max(found, self.nodes.constant(0.0)), lengths)

    def pixels(self, values: ir.Value) -> ir.Value:
        """(..., rows, columns) to (..., H, W), the nearest."""
        assert values.shape is not None
        rank = len(values.shape)
        rows = self.nodes.Gather(values, self._seen(self.vertical), axis=rank - 2)
        return self.nodes.Gather(rows, self._seen(self.horizontal), axis=rank - 1)

    def _vector(self, numbers: list[ir.Value]) -> ir.Value:
        op = self.nodes
        first = self.nodes.constant([0], np.int64)
        return op.Concat(*(op.Unsqueeze(number, first) for number in numbers), axis=0)

    def _seen(self, side: Side) -> ir.Value:
        """The pixel of the input for each pixel of the image, in whole numbers."""
        op = self.nodes
        zero, one, two, last = (
            op.constant(number, np.int64) for number in (0, 1, 2, side.size - 1)
        )
        middle = op.Add(op.Mul(op.Range(zero, side.length, one), two), one)  # in half pixels
        scaled = op.Div(op.Mul(middle, side.resized), op.Mul(side.length, two))
        return op.Clip(op.Sub(scaled, op.Cast(side.offset, to=INT)), zero, last)


def bring_back(graph: ir.Graph, kind: Kind, front: Front, image: ir.Value) -> None:
    """Replaces the outputs of a graph that are places in the input by those in the image; a graph
    without such outputs stays as it is.

    Args:
        graph: From the image to the outputs of the network.
        kind: Says which outputs are places.
        front: With no nodes yet.
        image: The input of the graph.
    """
    places = {
        number: kind.outputs[str(output.name)].place for number, output in enumerate(graph.outputs)
    }
    if not any(places.values()):
        return
    inverse = Inverse(front, image)
    for number, place in places.items():
        if not place:
            continue
        given = graph.outputs[number]
        found = inverse.points(given) if place == "points" else inverse.pixels(given)
        assert given.shape is not None
        assert given.dtype is not None
        sides = given.shape if place == "points" else [*given.shape[:-2], "H", "W"]
        found.name, found.dtype, found.shape = given.name, given.dtype, ir.Shape(sides)
        given.name = f"{given.name}{IN_INPUT}"
        graph.outputs[number] = found
    graph.extend(front.nodes.tape.nodes)
