"""What simplification must leave alone, or at least as it computes."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from vae_gen_export.simplify import forms, simplify
from vae_gen_export.simplify.evaluation import Subgraph
from vae_gen_export.simplify.regions import Region
from vae_gen_export.simplify.view import View

from tests.export.simplification import graph_of, normal, operations, run


def test_a_reshape_across_the_batch_is_left_alone() -> None:
    # Rows 2i and 2i + 1 become one row: no affine map of a row, though every operation is affine.
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["pairs"]),
        helper.make_node("MatMul", ["pairs", "up"], ["wide"]),
        helper.make_node("MatMul", ["wide", "down"], ["y"]),
    ]
    constants = {"shape": np.array([-1, 8], np.int64), "up": normal(8, 50), "down": normal(50, 8)}
    model = graph_of(nodes, constants, ["batch", 4], ["half", 8])
    x = normal(6, 4)
    small, _ = simplify(model)
    np.testing.assert_allclose(run(small, x)[0], run(model, x)[0], rtol=1e-5, atol=1e-4)


def test_what_costs_an_unknown_amount_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: object) -> NoReturn:
        raise ValueError("a shape that cannot be inferred")

    nodes = [helper.make_node("MatMul", ["x", "up"], ["wide"]), helper.make_node("MatMul", ["wide", "down"], ["y"])]
    model = graph_of(nodes, {"up": normal(4, 50), "down": normal(50, 2)}, ["batch", 4], ["batch", 2])
    assert len(operations(simplify(model)[0])) == 1
    monkeypatch.setattr(forms, "total_multiply_adds", unknown)
    assert operations(simplify(model)[0]) == operations(model)


def test_a_graph_that_holds_others_is_left_alone() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["wide"], ["out"])], "b", [], [helper.make_tensor_value_info("out", 1, None)]
    )
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["wide"]),
        helper.make_node("MatMul", ["wide", "down"], ["narrow"]),
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "zero"], ["yes"]),
        helper.make_node("If", ["yes"], ["again"], then_branch=branch, else_branch=branch),
        helper.make_node("Concat", ["narrow", "again"], ["y"], axis=1),
    ]
    constants = {"up": normal(4, 50), "down": normal(50, 2), "zero": np.float32(0)}
    model = graph_of(nodes, constants, ["batch", 4], ["batch", 52])
    small, what = simplify(model)
    assert not what.rewrites
    assert operations(small) == operations(model)


@pytest.mark.parametrize("widths", [(50, 60, 2), (50, 3, 2)], ids=["nothing to gain", "layers become one"])
def test_weights_in_half_precision_stay_so_where_they_stay(widths: tuple[int, ...]) -> None:
    first, second, third = widths
    weights = {"up": normal(4, first), "between": normal(first, second), "down": normal(second, third)}
    nodes = [helper.make_node("Cast", [f"{name}16"], [name], to=TensorProto.FLOAT) for name in weights]
    nodes += [
        helper.make_node("MatMul", ["x", "up"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["bent"]),
        helper.make_node("MatMul", ["bent", "between"], ["again"]),
        *([helper.make_node("Relu", ["again"], ["bent again"])] if second > third * 10 else []),
        helper.make_node("MatMul", ["bent again" if second > third * 10 else "again", "down"], ["y"]),
    ]
    constants = {f"{name}16": values.astype(np.float16) for name, values in weights.items()}
    model = graph_of(nodes, constants, ["batch", 4], ["batch", third])
    x = normal(6, 4)
    small, what = simplify(model)
    np.testing.assert_allclose(run(small, x)[0], run(model, x)[0], rtol=1e-4, atol=1e-4)
    kinds = {tensor.name: tensor.data_type for tensor in small.graph.initializer}
    if second == 60:
        assert not what.rewrites
        assert kinds == dict.fromkeys(constants, TensorProto.FLOAT16)
        assert len(small.SerializeToString()) < 1.05 * len(model.SerializeToString())
    else:
        assert what.multiply_adds_after < what.multiply_adds_before
        assert kinds.pop("up16") == TensorProto.FLOAT16
        assert [*kinds.values()] == [TensorProto.FLOAT]


def test_other_precisions_are_left_alone() -> None:
    nodes = [helper.make_node("MatMul", ["x", "up"], ["wide"]), helper.make_node("MatMul", ["wide", "down"], ["y"])]
    constants = {"up": normal(4, 50).astype(np.float64), "down": normal(50, 2).astype(np.float64)}
    model = graph_of(nodes, constants, ["batch", 4], ["batch", 2], TensorProto.DOUBLE)
    small, what = simplify(model)
    assert not what.rewrites
    assert operations(small) == ["MatMul", "MatMul"]


NOT_AFFINE = {
    "statistics of the batch": helper.make_node(
        "BatchNormalization", ["x", "one", "one", "one", "one"], ["h"], training_mode=1
    ),
    "a border that varies": helper.make_node("Pad", ["x", "pads", "level"], ["h"]),
    "of another domain": helper.make_node("Neg", ["x"], ["h"], domain="other"),
}


@pytest.mark.parametrize("name", NOT_AFFINE)
def test_what_only_looks_affine_is_left_alone(name: str) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["level"], keepdims=0),
        NOT_AFFINE[name],
        helper.make_node("Conv", ["h", "kernel"], ["maps"]),
        helper.make_node("Tanh", ["maps"], ["bent"]),
        helper.make_node("Mul", ["bent", "level"], ["y"]),
    ]
    constants = {"one": np.float32([1, 2]), "kernel": normal(3, 2, 1, 1), "pads": np.array([0, 0, 1, 1, 0, 0, 0, 0])}
    height = 6 if name == "a border that varies" else 5
    model = graph_of(nodes, constants, ["batch", 2, 5, 4], ["batch", 3, height, height - 1])
    model.opset_import.append(helper.make_opsetid("other", 1))
    known = helper.make_tensor_value_info("h", TensorProto.FLOAT, ["batch", 2, height, height - 1])
    model.graph.value_info.append(known)  # as the program that made the graph may know it
    small, what = simplify(model)
    assert not what.rewrites
    assert operations(small) == operations(model)


def test_a_part_that_makes_more_rows_than_it_takes_cannot_be_run() -> None:
    nodes = [helper.make_node("Reshape", ["x", "pairs"], ["y"])]
    opsets = [helper.make_opsetid("", 18)]
    part = Subgraph(nodes, {"pairs": np.array([-1, 2])}, "x", ["y"], opsets, None)
    with pytest.raises(ValueError, match="mixed"):
        part(np.zeros((3, 4)))


def test_a_part_that_mixes_rows_cannot_be_tried() -> None:
    model = graph_of([helper.make_node("Transpose", ["x"], ["y"])], {}, [5, 5], [5, 5])
    with pytest.raises(ValueError, match="y mixes rows"):
        _ = Region(View(model), "x", (0,)).probe


FIVE = np.arange(5, dtype=np.float32)
UNFIT: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray], list[Any], list[Any]]] = {
    "the first rows": (
        [
            helper.make_node("Slice", ["x", "begin", "end", "axis"], ["few"]),
            helper.make_node("Gemm", ["few", "up"], ["wide"]),
            helper.make_node("Gemm", ["wide", "down"], ["y"]),
        ],
        {
            "begin": np.array([0]),
            "end": np.array([10]),
            "axis": np.array([0]),
            "up": normal(4, 50),
            "down": normal(50, 3),
        },
        ["batch", 4],
        ["few", 3],
    ),
    "rows padded": (
        [
            helper.make_node("Pad", ["x", "pads"], ["more"]),
            helper.make_node("MatMul", ["more", "up"], ["wide"]),
            helper.make_node("MatMul", ["wide", "down"], ["y"]),
        ],
        {"pads": np.array([0, 0, 1, 0]), "up": normal(4, 50), "down": normal(50, 3)},
        ["batch", 4],
        ["more", 3],
    ),
    "rows split between layers": (
        [
            helper.make_node("Gemm", ["x", "up"], ["wide"]),
            helper.make_node("Relu", ["wide"], ["positive"]),
            helper.make_node("Reshape", ["positive", "pairs"], ["rows"]),
            helper.make_node("Gemm", ["rows", "down"], ["y"]),
        ],
        {"up": normal(4, 6), "pairs": np.array([-1, 3]), "down": normal(3, 3)},
        ["batch", 4],
        ["rows", 3],
    ),
    "a constant for each row": (
        [helper.make_node("Add", ["x", "each"], ["shifted"]), helper.make_node("MatMul", ["shifted", "down"], ["y"])],
        {"each": normal(8, 4), "down": normal(4, 3)},
        [8, 4],
        [8, 3],
    ),
    "a bias for each row": (
        [
            helper.make_node("Gemm", ["x", "up", "bias"], ["wide"]),
            helper.make_node("Relu", ["wide"], ["positive"]),
            helper.make_node("Gemm", ["positive", "down"], ["y"]),
        ],
        {"up": normal(4, 6) * np.float32([1, 1, 0, 1, 1, 1]), "bias": normal(8, 6), "down": normal(6, 3)},
        [8, 4],
        [8, 3],
    ),
    "rows and columns changed about": (
        [
            helper.make_node("Transpose", ["x"], ["turned"]),
            helper.make_node("Mul", ["turned", "each"], ["scaled"]),
            helper.make_node("Mul", ["scaled", "each"], ["again"]),
            helper.make_node("Transpose", ["again"], ["y"]),
        ],
        {"each": FIVE + 1},
        [5, 5],
        [5, 5],
    ),
    "no columns": (
        [helper.make_node("Gemm", ["x", "up"], ["none"]), helper.make_node("Gemm", ["none", "down", "bias"], ["y"])],
        {"up": normal(4, 0), "down": normal(0, 3), "bias": normal(3)},
        ["batch", 4],
        ["batch", 3],
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_mixes_or_tells_rows_apart_is_left_alone(name: str) -> None:
    nodes, constants, x_shape, y_shape = UNFIT[name]
    model = graph_of(nodes, constants, x_shape, y_shape)
    small, _ = simplify(model)
    for batch in (16, 70) if x_shape[0] == "batch" else (x_shape[0],):
        x = normal(batch, *x_shape[1:])
        expected = run(model, x)[0]
        np.testing.assert_allclose(run(small, x)[0], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_sparse_tensors_are_left_alone() -> None:
    values = numpy_helper.from_array(np.float32([2, 3]), "down")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([0, 4]), "places"), [4, 2])
    model = graph_of([helper.make_node("MatMul", ["x", "down"], ["y"])], {}, ["batch", 4], ["batch", 2])
    model.graph.sparse_initializer.append(sparse)
    small, what = simplify(model)
    assert small == model
    assert not what.rewrites
