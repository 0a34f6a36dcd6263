"""Which nodes work on each row by itself: what `keeps_rows` says, and what onnx's reference evaluator does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from vae_gen_export.simplify.rows import keeps_rows
from vae_gen_export.simplify.view import View

from tests.export.simplification import normal

FREE = 6  # rows where the batch is free


def node(operation: str, *inputs: str, outputs: tuple[str, ...] = ("y",), **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operation, inputs, outputs, **attributes)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def model_of(
    each: onnx.NodeProto, constants: dict[str, np.ndarray], opset: int, **shapes: list[Any]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        [each],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in each.output],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def works_on_rows(model: onnx.ModelProto) -> bool:
    """Whether the outputs are in another order where the rows of the inputs are."""
    inputs = {}
    for number, value in enumerate(model.graph.input):
        batch, *shape = (dim.dim_value for dim in value.type.tensor_type.shape.dim)
        inputs[value.name] = normal(batch or FREE, *shape) + number
    evaluator = ReferenceEvaluator(model)
    straight = evaluator.run(None, inputs)
    rolled = evaluator.run(None, {name: np.roll(values, 1, 0) for name, values in inputs.items()})
    rows = len(inputs["x"])
    return all(
        len(one) == rows and np.allclose(np.roll(one, 1, 0), other, atol=1e-6)
        for one, other in zip(straight, rolled, strict=True)
    )


FLAT, IMAGE, FIVE = {"x": ["batch", 4]}, {"x": ["batch", 2, 3]}, {"x": [5, 5]}
MAPS = {"x": ["batch", 1, 3, 3]}
TWO = {"x": [5, 4], "w": [5, 4]}
CASES: dict[str, tuple[bool, onnx.NodeProto, dict[str, np.ndarray], dict[str, list[Any]]]] = {
    "other axes exchanged": (True, node("Transpose", "x", perm=[0, 2, 1]), {}, IMAGE),
    "rows and columns exchanged": (False, node("Transpose", "x", perm=[1, 0]), {}, FIVE),
    "all axes reversed": (False, node("Transpose", "x"), {}, FIVE),
    "flattened": (True, node("Flatten", "x"), {}, IMAGE),
    "flattened into one row": (False, node("Flatten", "x", axis=0), {}, {"x": [5, 4]}),
    "flattened into more rows": (False, node("Flatten", "x", axis=2), {}, {"x": [5, 2, 3]}),
    "reshaped": (True, node("Reshape", "x", "s"), {"s": integers(-1, 6)}, IMAGE),
    "reshaped, the batch as it is": (True, node("Reshape", "x", "s"), {"s": integers(0, 3, 2)}, IMAGE),
    "reshaped with a fixed batch": (True, node("Reshape", "x", "s"), {"s": integers(5, -1)}, {"x": [5, 2, 3]}),
    "reshaped into more rows": (False, node("Reshape", "x", "s"), {"s": integers(-1, 3)}, IMAGE),
    "reshaped into fewer rows": (False, node("Reshape", "x", "s"), {"s": integers(3, 4)}, {"x": [6, 2]}),
    "dense": (True, node("Gemm", "x", "w", "b"), {"w": normal(4, 3), "b": normal(3)}, FLAT),
    "dense, one row of bias": (True, node("Gemm", "x", "w", "b"), {"w": normal(4, 3), "b": normal(1, 3)}, FLAT),
    "dense, a bias for each row": (
        False, node("Gemm", "x", "w", "b"), {"w": normal(4, 3), "b": normal(5, 3)}, {"x": [5, 4]},
    ),
    "dense, turned": (False, node("Gemm", "x", "w", transA=1), {"w": normal(5, 3)}, FIVE),
    "times a matrix": (True, node("MatMul", "x", "w"), {"w": normal(4, 3)}, FLAT),
    "a matrix times": (False, node("MatMul", "w", "x"), {"w": normal(5, 5)}, FIVE),
    "images times a matrix": (True, node("MatMul", "x", "w"), {"w": normal(3, 4)}, IMAGE),
    "a matrix times images": (True, node("MatMul", "w", "x"), {"w": normal(4, 2)}, IMAGE),
    "images times one matrix in a stack": (True, node("MatMul", "x", "w"), {"w": normal(1, 3, 4)}, IMAGE),
    "each image times another matrix": (
        False, node("MatMul", "x", "w"), {"w": normal(5, 3, 4)}, {"x": [5, 2, 3]},
    ),
    "plus one row": (True, node("Add", "x", "c"), {"c": normal(1, 4)}, FLAT),
    "plus columns": (True, node("Mul", "x", "c"), {"c": normal(4)}, FLAT),
    "plus something for each row": (False, node("Sub", "x", "c"), {"c": normal(5, 4)}, {"x": [5, 4]}),
    "plus a stack": (False, node("Add", "x", "c"), {"c": normal(5, 1, 4)}, {"x": [5, 4]}),
    "plus another": (True, node("Add", "x", "w"), {}, TWO),
    "plus another of higher rank": (False, node("Add", "x", "w"), {}, {"x": [5, 4], "w": [5, 5, 4]}),
    "resized": (True, node("Resize", "x", "", "s"), {"s": np.float32([1, 1, 2, 2])}, MAPS),
    "resized along the batch": (False, node("Resize", "x", "", "s"), {"s": np.float32([2, 1, 1, 1])}, MAPS),
    "resized to sizes": (True, node("Resize", "x", "", "", "s"), {"s": integers(5, 1, 6, 4)}, {"x": [5, 1, 3, 2]}),
    "resized to more rows": (
        False, node("Resize", "x", "", "", "s"), {"s": integers(10, 1, 3, 2)}, {"x": [5, 1, 3, 2]},
    ),
    "columns cut": (
        True, node("Slice", "x", "b", "e", "a"), {"b": integers(1), "e": integers(3), "a": integers(-1)}, FLAT,
    ),
    "rows cut": (
        False, node("Slice", "x", "b", "e", "a"), {"b": integers(0), "e": integers(3), "a": integers(0)}, {"x": [5, 4]},
    ),
    "rows cut, unsaid": (False, node("Slice", "x", "b", "e"), {"b": integers(0), "e": integers(3)}, {"x": [5, 4]}),
    "columns' mean": (True, node("ReduceMean", "x", "a"), {"a": integers(1)}, FLAT),
    "rows' mean": (False, node("ReduceMean", "x", "a"), {"a": integers(-2)}, {"x": [5, 4]}),
    "everything's sum": (False, node("ReduceSum", "x"), {}, {"x": [5, 4]}),
    "an axis put in": (True, node("Unsqueeze", "x", "a"), {"a": integers(1)}, FLAT),
    "an axis put before": (False, node("Unsqueeze", "x", "a"), {"a": integers(-3)}, {"x": [5, 4]}),
    "an axis taken out": (True, node("Squeeze", "x", "a"), {"a": integers(1)}, {"x": ["batch", 1, 3]}),
    "the first axis taken out": (False, node("Squeeze", "x", "a"), {"a": integers(0)}, {"x": [1, 4, 3]}),
    "side by side": (True, node("Concat", "x", "w", axis=1), {}, TWO),
    "one below the other": (False, node("Concat", "x", "w", axis=0), {}, TWO),
    "columns picked": (True, node("Gather", "x", "i", axis=1), {"i": integers(2, 0)}, FLAT),
    "rows picked": (False, node("Gather", "x", "i"), {"i": integers(2, 0, 1, 3, 4)}, {"x": [5, 4]}),
    "columns split": (True, node("Split", "x", "s", outputs=("y", "z"), axis=1), {"s": integers(1, 3)}, FLAT),
    "rows split": (False, node("Split", "x", "s", outputs=("y", "z")), {"s": integers(2, 3)}, {"x": [5, 4]}),
    "columns padded": (True, node("Pad", "x", "p"), {"p": integers(0, 1, 0, 2)}, FLAT),
    "padded before the rows": (False, node("Pad", "x", "p"), {"p": integers(1, 0, 0, 0)}, {"x": [5, 4]}),
    "padded after the rows": (False, node("Pad", "x", "p"), {"p": integers(0, 0, 1, 0)}, {"x": [5, 4]}),
    "one axis padded": (True, node("Pad", "x", "p", "", "a"), {"p": integers(1, 1), "a": integers(1)}, FLAT),
    "rows padded as an axis": (
        False, node("Pad", "x", "p", "", "a"), {"p": integers(0, 1), "a": integers(0)}, {"x": [5, 4]},
    ),
    "convolved": (True, node("Conv", "x", "w"), {"w": normal(2, 1, 2, 2)}, MAPS),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_said_of_rows_is_what_happens_to_them(name: str) -> None:
    expected, each, constants, shapes = CASES[name]
    model = model_of(each, constants, 18, **shapes)
    assert works_on_rows(model) == expected
    assert keeps_rows(View(model), each) == expected


def test_attributes_of_older_opsets_are_understood() -> None:
    for axis in (0, 1):
        for each in (
            node("Slice", "x", starts=[0], ends=[3], axes=[axis]),
            node("Slice", "x", starts=[0] * (2 - axis), ends=[3] * (2 - axis), axes=[1, 0][: 2 - axis]),
            node("Pad", "x", pads=[1 - axis, axis, 0, 0]),
            node("Unsqueeze", "x", axes=[axis]),
        ):
            model = model_of(each, {}, 9, x=[5, 5])
            assert keeps_rows(View(model), each) == works_on_rows(model) == (axis == 1), each.op_type


def test_what_cannot_be_seen_is_no() -> None:
    each = node("Relu", "x")
    assert not keeps_rows(View(model_of(each, {}, 18, x=["batch", "width"])), each)
    assert keeps_rows(View(model_of(each, {}, 18, x=["batch", 4])), each)
