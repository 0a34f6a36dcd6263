"""The reference is right: against formulas in numpy, and against another engine that computes in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from vae_gen.bundles import shipped

from tests.engines.reference import in_float64, reference, rows_for
from tests.runtime.reference import decode, encode

MODELS = [bundle / f"{graph}.onnx" for bundle in shipped().values() for graph in ("decoder", "encoder")]


def test_notebook_decoder_is_three_dense_layers() -> None:
    model = shipped()["notebook"] / "decoder.onnx"
    weights = [numpy_helper.to_array(tensor).astype(np.float64) for tensor in onnx.load(model).graph.initializer]
    matrices, biases = ([values for values in weights if values.ndim == rank] for rank in (2, 1))
    biases = [values for values in biases if len(values) > 4]  # not the sizes of a Reshape
    z = rows_for(model, 64)
    hidden = z.astype(np.float64)
    for (inputs, outputs), matrix_of in (((8, 24), 0.3), ((24, 49), 0.3), ((49, 784), None)):
        (matrix,) = [each for each in matrices if each.shape == (outputs, inputs)]
        (bias,) = [each for each in biases if each.shape == (outputs,)]
        hidden = hidden @ matrix.T + bias
        if matrix_of is not None:
            hidden = np.where(hidden > 0, hidden, np.float64(np.float32(matrix_of)) * hidden)
    expected = 1 / (1 + np.exp(-hidden)).reshape(64, 1, 28, 28)
    np.testing.assert_allclose(reference(model, z)["image"], expected, rtol=0, atol=1e-14)


def test_tiny_model_is_its_formula(tiny: Path) -> None:
    z = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    images = decode(z).astype(np.float32)
    mean, log_var = encode(images)
    outputs = reference(tiny / "encoder.onnx", images)
    # Its weights are the formula's rounded to float32.
    np.testing.assert_allclose(reference(tiny / "decoder.onnx", z)["image"], decode(z), atol=1e-6)
    np.testing.assert_allclose(outputs["mean"], mean, atol=1e-6)
    np.testing.assert_allclose(outputs["log_var"], log_var, atol=1e-6)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.parent.name}-{model.stem}")
def test_float64_from_end_to_end(model: Path) -> None:
    rows = rows_for(model, 64)
    double = in_float64(onnx.load(model))
    double.opset_import[0].version = 18  # from 16 on, onnxruntime has LeakyRelu for it
    session = onnxruntime.InferenceSession(double.SerializeToString())
    expected = reference(model, rows)
    there = session.run(list(expected), {session.get_inputs()[0].name: rows.astype(np.float64)})
    for values, name in zip(there, expected, strict=True):
        assert values.dtype == expected[name].dtype == np.float64
        np.testing.assert_allclose(expected[name], values, rtol=0, atol=1e-11)


def test_a_graph_that_states_a_type_is_refused() -> None:
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in "xy")
    with pytest.raises(ValueError, match="Cast would stay in float32"):
        in_float64(helper.make_model(helper.make_graph([cast], "cast", [x], [y])))
