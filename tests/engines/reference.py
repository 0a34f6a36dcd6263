"""What the graphs compute: onnx's reference evaluator in float64, and the rows that engines are given."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
BATCHES = (1, 3, 64)


def in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph of float32 with every type a float64 and every weight the same number.

    Raises:
        ValueError: a node says a type itself, which this does not translate.
    """
    double = onnx.ModelProto.FromString(model.SerializeToString())
    del double.graph.value_info[:]
    for value in [*double.graph.input, *double.graph.output]:
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in double.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    if typed := {node.op_type for node in double.graph.node} & {"Cast", "Constant", "ConstantOfShape", "EyeLike"}:
        raise ValueError(f"{', '.join(sorted(typed))} would stay in float32")
    onnx.checker.check_model(double, full_check=True)
    return double


@cache
def evaluator(model: Path) -> ReferenceEvaluator:
    return ReferenceEvaluator(in_float64(onnx.load(model)))


def reference(model: Path, rows: Float32) -> dict[str, Float64]:
    """Every output of a graph by its name."""
    graph = evaluator(model)
    with np.errstate(over="ignore"):  # exp in the sigmoid of large negative numbers: 1 / (1 + inf) is right
        return dict(
            zip(graph.output_names, graph.run(None, {graph.input_names[0]: rows.astype(np.float64)}), strict=True)
        )


def latents(bundle: Path, batch: int) -> Float32:
    """N(0, 1), the same rows at the head of every batch."""
    (z,) = onnx.load(bundle / "decoder.onnx").graph.input
    size = z.type.tensor_type.shape.dim[1].dim_value
    return np.random.default_rng(7).standard_normal((max(BATCHES), size))[:batch].astype(np.float32)


def images(bundle: Path, batch: int) -> Float32:
    """Pictures of the model, then noise, black and white ones as the last three of the longest batch."""
    pictures = reference(bundle / "decoder.onnx", latents(bundle, max(BATCHES)))["image"].astype(np.float32)
    pictures[-3], pictures[-2], pictures[-1] = np.random.default_rng(7).random(pictures.shape[1:]), 0, 1
    return pictures[:batch]
