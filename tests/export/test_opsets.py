"""Older opsets say the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from vae_gen_export.opsets import in_oldest_opset


def graph_of(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], opset: int, width: int) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 5])]
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", width])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def outputs(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def version(model: onnx.ModelProto) -> int:
    return int(model.opset_import[0].version)


def test_a_split_gets_its_sizes_and_the_graph_opset_13() -> None:
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),  # 3 and 2
        helper.make_node("Tanh", ["x"], ["t"]),
        helper.make_node("Split", ["t"], ["c", "d"], axis=1, num_outputs=2),
        helper.make_node("Concat", ["b", "a", "d", "c"], ["y"], axis=1),
    ]
    model = graph_of(nodes, {}, 18, 10)
    older = in_oldest_opset(model)
    assert version(older) == 13
    assert version(model) == 18
    (sizes,) = older.graph.initializer  # one for both
    assert numpy_helper.to_array(sizes).tolist() == [3, 2]
    x = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    expected = np.concatenate([x[:, 3:], x[:, :3], np.tanh(x)[:, 3:], np.tanh(x)[:, :3]], 1)
    np.testing.assert_allclose(outputs(older, x), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("operation", "opset", "expected"),
    [("Mish", 18, 18), ("LayerNormalization", 18, 17), ("HardSwish", 18, 14), ("Relu", 12, 12)],
)
def test_no_opset_is_too_old_for_an_operator(operation: str, opset: int, expected: int) -> None:
    constants = {"scale": np.ones(5, np.float32)} if operation == "LayerNormalization" else {}
    model = graph_of([helper.make_node(operation, ["x", *constants], ["y"])], constants, opset, 5)
    assert version(in_oldest_opset(model)) == expected


@pytest.mark.parametrize(("axis", "sizes"), [(0, [4, 5]), (1, ["batch", "width"])], ids=["of the batch", "unknown"])
def test_a_split_whose_sizes_are_not_to_be_seen_stays(axis: int, sizes: list[int | str]) -> None:
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=axis, num_outputs=2),
        helper.make_node("Concat", ["b", "a"], ["y"], axis=axis),
    ]
    model = graph_of(nodes, {}, 18, 5)
    for value in (*model.graph.input, *model.graph.output):
        value.CopyFrom(helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, sizes))
    same = in_oldest_opset(model)
    assert same.graph == model.graph
    assert version(same) == 18


def test_no_opset_is_too_old_for_a_type() -> None:
    model = graph_of([helper.make_node("Relu", ["x"], ["y"])], {}, 18, 5)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.INT32
    assert version(in_oldest_opset(model)) == 14
