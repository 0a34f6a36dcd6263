"""Graphs of unusual make: their simplified form is valid, costs no more and computes the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from vae_gen.cli import main
from vae_gen_export.simplify import Simplification, simplify
from vae_gen_export.simplify.agreement import largest_difference, rounding


def graph(text: str, opset: int = 17, **constants: np.ndarray) -> onnx.ModelProto:
    """A graph in ONNX's text form, and the constants that it names."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> agraph {text}')
    for name, values in constants.items():
        kind = np.float32 if values.dtype == np.float64 else values.dtype
        model.graph.initializer.append(numpy_helper.from_array(values.astype(kind), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def run(model: onnx.ModelProto, batch: int) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(batch)
    shapes = {
        each.name: [size if isinstance(size, int) else batch for size in each.shape] for each in session.get_inputs()
    }
    return session.run(None, {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()})


def simplified(before: onnx.ModelProto, batches: tuple[int, ...] = (1, 2, 3, 7)) -> tuple[list[str], Simplification]:
    """The operations of the simplified graph, which is one, and computes the same."""
    after, what = simplify(before)
    onnx.checker.check_model(after, full_check=True)
    assert list(after.graph.output) == list(before.graph.output)
    for batch in batches:
        for expected, found in zip(run(before, batch), run(after, batch), strict=True):
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()
    assert what.multiply_adds_after <= what.multiply_adds_before
    return [node.op_type for node in after.graph.node], what


def test_a_dense_layers_bias_may_be_one_number_without_axes() -> None:
    weights = normal(4, 6)
    weights[:, 2] = 0
    text = "(float[b, 4] x) => (float[b, 2] y) { h = Gemm(x, v, c) a = Relu(h) y = Gemm(a, w, d) }"
    before = graph(text, v=weights, c=np.array(0.5), w=normal(6, 2), d=np.array(-0.25))
    operations, what = simplified(before)
    assert operations == ["Gemm", "Relu", "Gemm"]
    assert [(each.removed, each.remaining) for each in what.removals] == [(1, 5)]


def test_a_product_with_several_matrices_is_no_layer_with_channels() -> None:
    text = "(float[b, 8, 1, 7] x) => (float[b, 1, 3, 6] y) { h = MatMul(x, v) a = Relu(h) y = ConvTranspose(a, w) }"
    operations, _ = simplified(graph(text, v=normal(8, 7, 4), w=normal(8, 1, 3, 3)))
    assert operations == ["MatMul", "Relu", "ConvTranspose"]
    weights = normal(4, 4, 6)
    weights[0] = 0
    text = "(float[b, 4, 5, 4] x) => (float[b, 4, 5, 2] y) { h = MatMul(x, v) a = Relu(h) y = MatMul(a, w) }"
    operations, _ = simplified(graph(text, v=weights, w=normal(4, 6, 2)))
    assert operations == ["MatMul", "Relu", "MatMul"]


def test_where_a_dense_layer_always_has_a_bias_it_keeps_one_of_zeros() -> None:
    weights = normal(6, 2)
    weights[1] = 0
    text = "(float[b, 4] x) => (float[b, 2] y) { h = Gemm(x, v, c) a = Relu(h) y = Gemm(a, w, d) }"
    before = graph(text, opset=9, v=normal(4, 6), c=normal(6), w=weights, d=np.zeros(2))
    _, what = simplified(before)
    assert [(each.removed, each.remaining) for each in what.removals] == [(1, 5)]


def test_names_are_given_once_even_to_parts_that_begin_at_the_same_tensor() -> None:
    def norm(seed: int) -> dict[str, np.ndarray]:
        values = np.random.default_rng(seed).uniform(0.5, 2, (4, 3))
        return dict(zip([f"{letter}{seed}" for letter in "sbmv"], values, strict=True))

    text = """(float[b, 3, 4, 4] x) => (float[b, 3, 4, 4] y1, float[b, 3, 4, 4] y2)
        { y1 = BatchNormalization(x, s1, b1, m1, v1) y2 = BatchNormalization(x, s2, b2, m2, v2) }"""
    operations, _ = simplified(graph(text, **norm(1), **norm(2)))
    assert operations == ["Mul", "Add", "Mul", "Add"]


@pytest.mark.parametrize("opset", [11, 17])
def test_outputs_that_are_made_twice_keep_their_types(opset: int) -> None:
    text = """(float[b, 2, 3] x) => (float[b, 6] y, float[b] z)
        { f = Flatten(x) y = Flatten(x) z = ReduceMax <axes=[1], keepdims=0> (f) }"""
    simplified(graph(text, opset))


@pytest.mark.parametrize(("ceil", "expected"), [(0, ["Flatten", "Gemm"]), (1, ["AveragePool", "Flatten", "Gemm"])])
def test_averages_of_windows_that_stick_out_are_left_alone(ceil: int, expected: list[str]) -> None:
    text = f"""(float[b, 4, 7] x) => (float[b, 1] y)
        {{ p = AveragePool <ceil_mode={ceil}, kernel_shape=[3], strides=[3]> (x) f = Flatten(p) y = Gemm(f, w, c) }}"""
    operations, _ = simplified(graph(text, w=normal(12 if ceil else 8, 1), c=normal(1)))
    assert operations == expected


@pytest.mark.parametrize("axis", [2, -1, 1, -2])
def test_a_new_axis_may_come_last(axis: int) -> None:
    text = """(float[b, 4] x) => (float[b, 2] y)
        { a = Gemm(x, v, c) u = Unsqueeze(a, axes) f = Flatten(u) y = Gemm(f, w, d) }"""
    model = graph(text, v=normal(4, 6), c=normal(6), axes=np.array([axis]), w=normal(6, 2), d=normal(2))
    assert simplified(model)[0] == ["Gemm"]


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_images_that_evaluators_resize_differently_are_left_alone(mode: str) -> None:
    text = f"""(float[b, 2, 5, 7] x) => (float[b, 1] y)
        {{ r = Resize <mode="{mode}", coordinate_transformation_mode="align_corners"> (x, , scales)
           f = Flatten(r) y = Gemm(f, w, c) }}"""
    before = graph(text, scales=np.array([1, 1, 1.5, 1.5]), w=normal(2 * 7 * 10, 1), c=normal(1))
    assert simplified(before)[0] == ["Resize", "Flatten", "Gemm"]


def test_a_value_that_is_near_zero_by_chance_is_measured_by_the_other_rows() -> None:
    first = np.random.default_rng(0).standard_normal(1)  # as the comparison draws it
    text = "(float[b, 1] x) => (float[b, 1] y) { y = Sub(x, c) }"
    exact, rounded = (graph(text, c=first + 1e-3 + rounding) for rounding in (0, 3e-7))
    assert 1e-7 < largest_difference(exact, rounded) < 5e-7


def test_weights_that_overflow_are_no_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = normal(5, 6)
    weights[:, 1] = 0
    text = "(float[b, 5] x) => (float[b, 3] y) { h = Gemm(x, v, c) a = Relu(h) y = Gemm(a, w) }"
    bias = np.array([1, 1e38, 1, 1, 1, 1])
    onnx.save(graph(text, v=weights, c=bias, w=np.full((6, 3), 20.0)), tmp_path / "in.onnx")
    target = tmp_path / "out.onnx"
    assert main(["simplify", str(tmp_path / "in.onnx"), str(target)]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "largest difference on random data: 0 of the largest value",
        f"written to {target}",
    ]


def there_and_back(large: float) -> onnx.ModelProto:
    """y = x, rounded."""
    return graph("(float[b, 4] x) => (float[b, 4] y) { a = Add(x, c) y = Sub(a, c) }", c=np.full(4, float(large)))


def test_what_float32_rounds_off_in_the_old_graph_is_no_fault_of_the_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(there_and_back(1000), tmp_path / "in.onnx")
    assert main(["simplify", str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx"), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["nodes_before"], values["nodes_after"]) == (2, 1)
    assert 1e-5 < values["largest_difference"] < 2e-5  # of 1000, two neighbours are 6e-5 apart; y is up to 2


@pytest.mark.parametrize(("large", "least", "most"), [(1000, 1e-5, 2e-5), (1, 1e-9, 1e-7), (1e5, 0, 0)])
def test_rounding_is_measured_against_float64(large: float, least: float, most: float) -> None:
    # What differs by much may be another function.
    assert least <= rounding(there_and_back(large)) <= most
