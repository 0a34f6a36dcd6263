"""Simplification of graphs that PyTorch's exporter does not write."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from vae_gen_export.simplify import simplify

from tests.export.simplification import graph_of, normal, operations, run


def test_what_is_there_twice_or_for_nobody_goes() -> None:
    nodes = [
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32([2]))),
        helper.make_node("Mul", ["half", "two"], ["one"]),
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("Relu", ["x"], ["positive again"]),
        helper.make_node("Tanh", ["x"], ["nobody's"]),
        helper.make_node("Mul", ["positive", "first"], ["left"]),
        helper.make_node("Mul", ["positive again", "second"], ["right"]),
        helper.make_node("Identity", ["right"], ["same"]),
        helper.make_node("Add", ["left", "same"], ["sum"]),
        helper.make_node("Mul", ["sum", "one"], ["y"]),
    ]
    twice = normal(4)
    constants = {"half": np.float32([0.5]), "first": twice, "second": twice, "unused": normal(1000)}
    model = graph_of(nodes, constants, ["batch", 4], ["batch", 4])
    small, _ = simplify(model)
    assert operations(small) == ["Relu", "Mul"]
    assert len(small.graph.initializer) == 1
    x = normal(3, 4)
    np.testing.assert_allclose(run(small, x)[0], np.maximum(x, 0) * twice * 2, rtol=1e-6)


def test_a_fixed_batch_is_kept() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "up"], ["wide"]),
        helper.make_node("Add", ["wide", "bias"], ["shifted"]),
        helper.make_node("MatMul", ["shifted", "down"], ["y"]),
    ]
    constants = {"flat": np.array([2, 12]), "up": normal(12, 50), "bias": normal(50), "down": normal(50, 5)}
    model = graph_of(nodes, constants, [2, 3, 4], [2, 5])
    small, what = simplify(model)
    assert operations(small) == ["Flatten", "Gemm"]
    assert what.multiply_adds_after == 12 * 5
    x = normal(2, 3, 4)
    expected = (x.reshape(2, 12).astype(np.float64) @ constants["up"] + constants["bias"]) @ constants["down"]
    np.testing.assert_allclose(run(small, x)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [9, 11, 13, 18])
def test_every_opset_is_written_as_it_is(opset: int) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["maps", "gamma", "beta", "mean", "variance"], ["normal"]),
        helper.make_node("Relu", ["normal"], ["positive"]),
        helper.make_node("Flatten", ["positive"], ["flat"]),
        helper.make_node("MatMul", ["flat", "up"], ["wide"]),
        helper.make_node("MatMul", ["wide", "one"], ["first"]),
        helper.make_node("MatMul", ["wide", "two"], ["second"]),
        helper.make_node("Tanh", ["first"], ["bent"]),
        helper.make_node("Relu", ["second"], ["cut"]),
        helper.make_node("Concat", ["bent", "cut"], ["y"], axis=1),
    ]
    names = ("gamma", "beta", "mean", "variance")
    constants = {name: np.abs(normal(3 + number)[:3]) + 0.5 for number, name in enumerate(names)}
    constants |= {"kernel": normal(3, 2, 3, 3), "up": normal(60, 90), "one": normal(90, 2), "two": normal(90, 3)}
    model = graph_of(nodes, constants, ["batch", 2, 5, 4], ["batch", 5])
    model.opset_import[0].version = opset
    small, what = simplify(model)
    assert operations(small) == ["Conv", "Relu", "Flatten", "Gemm", "Split", "Tanh", "Relu", "Concat"]
    assert what.multiply_adds_after == 20 * 3 * 2 * 9 + 60 * 5
    x = normal(4, 2, 5, 4)
    expected = run(model, x)[0]
    np.testing.assert_allclose(run(small, x)[0], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_outputs_that_are_the_same_keep_their_names() -> None:
    nodes = [helper.make_node("MatMul", ["x", "down"], [name]) for name in ("y", "again")]
    model = graph_of(nodes, {"down": normal(4, 3)}, ["batch", 4], ["batch", 3])
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, ["batch", 3]))
    small, _ = simplify(model)
    assert [value.name for value in small.graph.output] == ["y", "again"]
    x = normal(5, 4)
    for found, expected in zip(run(small, x), run(model, x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(12, 11), (7, 6)])  # small ones could become one dense layer too
def test_chains_whose_nodes_stand_between_each_other_are_found(height: int, width: int) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "up"], ["first"]),
        helper.make_node("Conv", ["x", "other"], ["second"]),
        helper.make_node("Conv", ["first", "down"], ["narrow"]),
        helper.make_node("Conv", ["second", "down"], ["thin"]),
        helper.make_node("Tanh", ["narrow"], ["bent"]),
        helper.make_node("Relu", ["thin"], ["cut"]),
        helper.make_node("Concat", ["bent", "cut"], ["y"], axis=1),
    ]
    constants = {"up": normal(30, 2, 1, 1), "other": normal(2, 30, 1, 1).swapaxes(0, 1), "down": normal(2, 30, 2, 1)}
    model = graph_of(nodes, constants, ["batch", 2, height, width], ["batch", 4, height - 1, width])
    small, what = simplify(model)
    assert sorted(operations(small)) == ["Concat", "Conv", "Conv", "Relu", "Tanh"]
    assert what.multiply_adds_after == 2 * ((height - 1) * width * 2 * 2 * 2)
    x = normal(4, 2, height, width)
    expected = run(model, x)[0]
    np.testing.assert_allclose(run(small, x)[0], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_each_of_several_images_gets_its_own_shape() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "up"], ["wide"]),
        helper.make_node("Conv", ["wide", "one"], ["y"], pads=[1, 0, 1, 1]),
        helper.make_node("Conv", ["wide", "two"], ["again"], pads=[0, 1, 1, 1]),
    ]
    constants = {"up": normal(40, 1, 1, 1), "one": normal(2, 40, 3, 3), "two": -2 * normal(2, 40, 3, 3)}
    model = graph_of(nodes, constants, ["batch", 1, 2, 2], ["batch", 2, 2, 1])
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, ["batch", 2, 1, 2]))
    small, what = simplify(model)
    assert operations(small) == ["Flatten", "Gemm", "Split", "Reshape", "Reshape"]
    assert what.multiply_adds_after == 4 * (4 + 4)
    x = normal(5, 1, 2, 2)
    for found, expected in zip(run(small, x), run(model, x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
