"""Resizing that changes nothing, left out of a graph in OpenVINO.

Graphs scale images by two matrix products whose weights follow from the size of the input
(`export.graph.Front`). The runtime scales images itself, so that the weights it meets select rows
or columns and are still multiplied with. ONNX cannot say this for one size alone: an `If` around
the products made OpenVINO 2026.4.1 give wrong predictions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_TURNED = ("transpose_a", "transpose_b")  # attributes of a product, of its left and right side


def select_pixels(graph: Any) -> int:
    """Replaces products with a matrix that only selects neighbouring rows or columns by that
    selection, which is the same, digit for digit.

    Args:
        graph: An `openvino.Model` whose input has one fixed shape; it is changed.

    Returns:
        The number of products that were replaced.
    """
    from openvino import opset13

    found = 0
    for product in graph.get_ordered_ops():
        if product.get_type_name() != "MatMul":
            continue
        turned = product.get_attributes()
        for weights, image, axis in ((0, 1, -2), (1, 0, -1)):
            if turned[_TURNED[image]]:
                continue
            matrix = _known(graph, product.input_value(weights))
            # rows to be selected, of an image (..., rows, columns) or of it turned
            matrix = matrix if turned[_TURNED[weights]] == bool(weights) else matrix.T
            if kept := _selected(matrix):
                cut = (np.array([number], np.int64) for number in (*kept, 1, axis))
                selection = opset13.slice(product.input_value(image), *cut)
                for target in product.output(0).get_target_inputs():
                    target.replace_source_output(selection.output(0))
                found += 1
    return found


def _known(graph: Any, value: Any) -> np.ndarray:
    """A matrix that is a constant, or follows from the shape of the input; else an empty one."""
    from openvino import Model
    from openvino.passes import ConstantFolding, Manager

    if len(value.partial_shape) != 2 or not _is_known(value.get_node()):
        return np.empty((0, 0))
    folded = Model([value], graph.get_parameters(), "weights")
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(folded)
    node = folded.get_results()[0].input_value(0).get_node()
    return node.data if node.get_type_name() == "Constant" else np.empty((0, 0))


def _is_known(node: Any) -> bool:
    """Whether nothing but shapes of the input is needed to compute it."""
    waiting, seen = [node], set()
    while waiting:
        one = waiting.pop()
        if one.get_type_name() == "Parameter":
            return False
        if one.get_type_name() != "ShapeOf" and one.get_friendly_name() not in seen:
            waiting += [value.get_node() for value in one.input_values()]
            seen.add(one.get_friendly_name())
    return True


def _selected(matrix: np.ndarray) -> tuple[int, int] | None:
    """Of a matrix that only selects neighbouring rows, the first one and the end; else None."""
    kept = matrix.argmax(1) if matrix.size else np.empty(0, int)
    if not len(kept) or (np.diff(kept) != 1).any():
        return None
    selecting = np.eye(matrix.shape[1], dtype=matrix.dtype)[kept]
    return (int(kept[0]), int(kept[-1]) + 1) if (matrix == selecting).all() else None
