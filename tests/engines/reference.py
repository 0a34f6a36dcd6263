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
    """A graph of float32 with float64 in place of it everywhere, and every weight the same number.

    Raises:
        ValueError: a node says its type itself, which this does not translate.
    """
    double = onnx.ModelProto.FromString(model.SerializeToString())
    del double.graph.value_info[:]
    for value in [*double.graph.input, *double.graph.output]:
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in double.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    if typed := {node.op_type for node in double.graph.node} & {"Cast", "Constant", "ConstantOfShape"}:
        raise ValueError(f"{', '.join(sorted(typed))} would stay in float32")
    onnx.checker.check_model(double, full_check=True)
    return double


@cache
def evaluator(model: Path) -> ReferenceEvaluator:
    return ReferenceEvaluator(in_float64(onnx.load(model)))


def reference(model: Path, rows: Float32) -> dict[str, Float64]:
    """Every output of a graph by its name."""
    graph = evaluator(model)
    outputs = graph.run(None, {graph.input_names[0]: rows.astype(np.float64)})
    return dict(zip(graph.output_names, outputs, strict=True))


def error(name: str, there: npt.NDArray[np.floating], here: Float64) -> float:
    """The largest difference: of an image, whose values are in [0, 1], as it is; else of the largest magnitude."""
    return float(np.abs(there - here).max() / (1 if name == "image" else np.abs(here).max()))


def rows_for(model: Path, batch: int) -> Float32:
    """The first rows of the longest batch: of a decoder N(0, 1), of an encoder what its decoder makes of them.

    The last three pictures are noise, black and white.
    """
    if model.stem == "decoder":
        (z,) = onnx.load(model).graph.input
        size = z.type.tensor_type.shape.dim[1].dim_value
        return np.random.default_rng(7).standard_normal((max(BATCHES), size))[:batch].astype(np.float32)
    decoder = model.with_stem("decoder")
    pictures = reference(decoder, rows_for(decoder, max(BATCHES)))["image"].astype(np.float32)
    pictures[-3], pictures[-2], pictures[-1] = np.random.default_rng(7).random(pictures.shape[1:]), 0, 1
    return pictures[:batch]
