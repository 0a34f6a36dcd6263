"""What is done to the axes of an output comes before its activation; the bytes stay the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from vae_gen_export.simplify import simplify

from tests.export.simplification import normal, run

LAYER = "h = Gemm(x, w) "


def graph(text: str, outputs: str = "float[b, 2, 3] y", opset: int = 18, **constants: np.ndarray) -> onnx.ModelProto:
    """Of x [b, 4], and h [b, 6] where the LAYER makes it."""
    text = f"(float[b, 4] x) => ({outputs}) {{ {text} }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> agraph {text}')
    constants = {"w": normal(4, 6), "image": np.array([0, 2, 3]), "half": np.float32([0.5]), **constants}
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(values, name) for name, values in constants.items() if name in used
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def made_of(before: onnx.ModelProto) -> str:
    """The operations of the simplified graph, which makes the same bytes."""
    after, _ = simplify(before)
    for rows in (1, 5):
        for expected, found in zip(run(before, normal(rows, 4)), run(after, normal(rows, 4)), strict=True):
            np.testing.assert_array_equal(found, expected)
            assert found.shape == expected.shape
    return " ".join(node.op_type for node in after.graph.node)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = Sigmoid(h) y = Reshape(a, image)", "Gemm Reshape Sigmoid"),
        ("a = Clip(h, low, high) y = Reshape(a, image)", "Gemm Reshape Clip"),
        ("a = Tanh(h) c = Mul(half, a) d = Add(c, half) y = Reshape(d, image)", "Gemm Reshape Tanh Mul Add"),
        ("a = Relu(h) b = Reshape(a, long) c = Tanh(b) y = Squeeze(c, last)", "Gemm Relu Reshape Tanh"),
    ],
)
def test_the_activation_makes_the_output(text: str, expected: str) -> None:
    constants = {"long": np.array([0, 2, 3, 1]), "last": np.array([3]), "low": np.float32(0), "high": np.float32(1)}
    assert made_of(graph(LAYER + text, **constants)) == expected


@pytest.mark.parametrize("operation", ["Flatten", "Unsqueeze <axes=[1]>"])
def test_whatever_only_renames_the_axes(operation: str) -> None:
    outputs = "float[b, 6] y" if operation == "Flatten" else "float[b, 1, 2, 3] y"
    text = f"{LAYER} i = Reshape(h, image) s = Softmax(i) a = Sigmoid(s) y = {operation}(a)"
    assert made_of(graph(text, outputs, opset=11)) == f"Gemm Reshape Softmax {operation.split(maxsplit=1)[0]} Sigmoid"


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        ("a = Sigmoid(h) y = Reshape(a, image) z = Softmax(a)", "float[b, 2, 3] y, float[b, 6] z"),
        ("a = Sigmoid(h) y = Reshape(a, image)", "float[b, 2, 3] y, float[b, 6] a"),
        ("a = Tanh(h) c = Mul(a, each) y = Reshape(c, image)", "float[b, 2, 3] y"),
        ("a = Softmax(h) y = Reshape(a, image)", "float[b, 2, 3] y"),
        ("a = Sigmoid(h) c = Mul(a, h) y = Reshape(c, image)", "float[b, 2, 3] y"),
        ("a = Sigmoid(h) y = Reshape(a, image) z = Relu(y)", "float[b, 2, 3] z"),
    ],
    ids=["another reader", "another output", "a number each", "not by itself", "of two tensors", "no output"],
)
def test_what_cannot_go_first_stays(text: str, outputs: str) -> None:
    before = graph(LAYER + text, outputs, each=normal(6))
    assert made_of(before) == " ".join(node.op_type for node in before.graph.node)


def test_a_convolution_keeps_its_activation() -> None:
    text = "i = Reshape(x, square) c = Conv(i, k) a = Relu(c) y = Reshape(a, flat)"
    constants = {"square": np.array([0, 1, 2, 2]), "k": normal(3, 1, 2, 1), "flat": np.array([0, 6])}
    assert made_of(graph(text, "float[b, 6] y", **constants)) == "Reshape Conv Relu Reshape"


def test_known_shapes_of_what_has_other_axes_now_are_forgotten() -> None:
    before = graph(LAYER + "a = Tanh(h) s = Sigmoid(a) y = Reshape(s, image)")
    before.graph.value_info.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 6]) for name in "has")
    assert made_of(before) == "Gemm Reshape Tanh Sigmoid"
    assert [value.name for value in simplify(before)[0].graph.value_info] == ["h"]
