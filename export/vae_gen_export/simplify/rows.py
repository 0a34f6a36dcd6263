"""Which nodes work on each row of the batch by itself, by what they say: the batch is the first axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx

from vae_gen_export.simplify.view import View, attributes


def keeps_rows(view: View, node: onnx.NodeProto) -> bool:
    """Whether row i of the outputs is made of row i of the inputs, and of nothing that differs from row to row.

    No, too, where that is not to be seen.
    """
    variable = [node.input[position] for position in view.variable_inputs(node)]
    if not {*variable, *filter(None, node.output)} <= view.shapes.keys():
        return False
    ranks = {len(view.shapes[name]) + 1 for name in variable}
    if len(ranks) > 1:
        return False  # broadcasting would set the batch beside another axis
    return RULES.get(node.op_type, _leaves_first_axis)(view, node, *ranks)


def _leaves_first_axis(view: View, node: onnx.NodeProto, rank: int) -> bool:
    return {0, -rank}.isdisjoint(_axes(view, node, rank))


def _transpose(_view: View, node: onnx.NodeProto, _rank: int) -> bool:
    return bool(attributes(node).get("perm", [-1])[0] == 0)


def _reshape(view: View, node: onnx.NodeProto, _rank: int) -> bool:
    """Rows of the same size are as many as before, and hold what they held."""
    return view.size(node.input[0]) == view.size(node.output[0])


def _gemm(view: View, node: onnx.NodeProto, _rank: int) -> bool:
    bias = view.constant_input(node, 2)
    return not attributes(node).get("transA") and (bias is None or bias.ndim < 2 or bias.shape[0] == 1)


def _matmul(view: View, node: onnx.NodeProto, rank: int) -> bool:
    if rank == 2:  # [batch, n] times a matrix
        return view.variable_inputs(node) == [0]
    return _constants_are_alike(view, node, rank)


def _constants_are_alike(view: View, node: onnx.NodeProto, rank: int) -> bool:
    """Whether the constants of a node are the same for every row of tensors of that rank."""
    shapes = [view.constants[name].shape for name in node.input if name in view.constants]
    return all(len(shape) < rank or (len(shape) == rank and shape[0] == 1) for shape in shapes)


def _resize(view: View, node: onnx.NodeProto, rank: int) -> bool:
    scales, sizes = view.constant_input(node, 2), view.constant_input(node, 3)
    if sizes is not None and sizes.size:
        return len(sizes) == rank and sizes[0] == view.batch
    return scales is not None and len(scales) == rank and scales[0] == 1


def _axes(view: View, node: onnx.NodeProto, rank: int) -> Sequence[int]:
    """The axes along which a node moves, takes or sums values."""
    given: dict[str, Any] = attributes(node)
    if node.op_type in ("Concat", "Gather", "Split"):
        return [given.get("axis", 0)]
    if node.op_type == "Slice":
        axes = given.get("axes", view.constant_input(node, 3))
        starts = given.get("starts", view.constant_input(node, 1))
        return range(rank if starts is None else len(starts)) if axes is None else [int(axis) for axis in axes]
    if node.op_type in ("ReduceMean", "ReduceSum", "Squeeze", "Unsqueeze"):
        axes = given.get("axes", view.constant_input(node, 1))
        ranks = rank + (len(axes) if node.op_type == "Unsqueeze" and axes is not None else 0)
        return [0] if axes is None else [int(axis) % ranks for axis in axes]
    if node.op_type == "Pad":
        pads, axes = given.get("pads", view.constant_input(node, 1)), view.constant_input(node, 3)
        if pads is None:
            return [0]
        padded = range(rank) if axes is None else [int(axis) for axis in axes]
        half = len(pads) // 2
        return [axis for number, axis in enumerate(padded) if pads[number] or pads[half + number]]
    return []


RULES: dict[str, Callable[[View, onnx.NodeProto, int], bool]] = {
    **dict.fromkeys(("Add", "Div", "Mul", "Sub", "Sum"), _constants_are_alike),
    "Flatten": _reshape,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Reshape": _reshape,
    "Resize": _resize,
    "Transpose": _transpose,
}
