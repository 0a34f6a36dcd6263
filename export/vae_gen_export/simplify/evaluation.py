"""Some nodes of a graph, run in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_resize import Resize as SlowResize

from vae_gen_export.simplify.view import Array, Shape, as_float64

Float64 = npt.NDArray[np.float64]
ROWS = 64  # run at a time


class Subgraph:
    """Tensors as functions of one other tensor, computed by onnx's reference evaluator in float64."""

    def __init__(
        self,
        nodes: Sequence[onnx.NodeProto],
        constants: dict[str, Array],
        source: str,
        outputs: Sequence[str],
        opsets: Sequence[onnx.OperatorSetIdProto],
        batch: int | None,
    ) -> None:
        used = {name for node in nodes for name in node.input}
        tensors = [
            onnx.numpy_helper.from_array(as_float64(values), name) for name, values in constants.items() if name in used
        ]
        double = onnx.TensorProto.DOUBLE
        graph = onnx.helper.make_graph(
            nodes,
            "part",
            [onnx.helper.make_tensor_value_info(source, double, None)],
            [onnx.helper.make_tensor_value_info(name, double, None) for name in outputs],
            tensors,
        )
        model = onnx.helper.make_model(graph, opset_imports=opsets)
        self._evaluator = _evaluator(model)
        self._source = source
        self._batch = batch

    def __call__(self, rows: Float64) -> list[Float64]:
        """The outputs for `rows` [n, *shape]: [n, *their shapes]. Raises ValueError if a row makes none, or several."""
        step = self._batch or ROWS
        parts = [self._run(rows[start : start + step]) for start in range(0, len(rows), step)]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def _run(self, rows: Float64) -> list[Float64]:
        count = len(rows)
        if self._batch and count < self._batch:
            rows = np.concatenate([rows, np.zeros((self._batch - count, *rows.shape[1:]))])
        results: Any = self._evaluator.run(None, {self._source: rows})
        if any(len(result) != len(rows) for result in results):
            raise ValueError("rows of the batch are mixed")
        return [result[:count] for result in results]


def in_float64(model: onnx.ModelProto) -> Callable[[dict[str, Array]], dict[str, Array]]:
    """A whole graph of float32, its inputs and outputs by name, that computes in float64 and rounds at the end."""
    double = deepcopy(model)
    for tensor in double.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(as_float64(onnx.numpy_helper.to_array(tensor)), tensor.name))
    evaluator = _evaluator(double)

    def run(values: dict[str, Array]) -> dict[str, Array]:
        made: Any = evaluator.run(None, {name: as_float64(array) for name, array in values.items()})
        rounded = [each.astype(np.float32) if each.dtype == np.float64 else each for each in made]
        return dict(zip(evaluator.output_names, rounded, strict=True))

    return run


def _evaluator(model: onnx.ModelProto) -> ReferenceEvaluator:
    return ReferenceEvaluator(model, new_ops=[BatchNormalization, Conv, ConvTranspose, Resize])


def matrix_of(part: Subgraph, shape: Shape) -> tuple[Float64, Float64]:
    """(W [out, in], b [out]) of an affine map of rows of `shape`, its outputs one after the other.

    Read off by running zero, which gives b, and every basis vector, which gives W + b.
    """
    size = int(np.prod(shape))

    def run(rows: Float64) -> Float64:
        return np.concatenate([result.reshape(len(rows), -1) for result in part(rows.reshape(-1, *shape))], axis=1)

    bias = run(np.zeros((1, size)))[0]
    columns = [run(np.eye(min(ROWS, size - start), size, start)) for start in range(0, size, ROWS)]
    return np.concatenate(columns).T - bias[:, None], bias


class _Convolution(OpRun):
    """PyTorch computes in a millisecond what the reference evaluator takes seconds for."""

    op_domain = ""

    def _parameters(self, x: Array, weight: Array, attributes: dict[str, Any]) -> tuple[list[int], dict[str, Any]]:
        if attributes.get("auto_pad") not in (None, "NOTSET") or attributes.get("output_shape"):
            raise ValueError("auto_pad and output_shape are not computed here")
        pads = list(attributes.get("pads") or [0] * (2 * (x.ndim - 2)))
        names = {"strides": "stride", "dilations": "dilation", "group": "groups"}
        given = {theirs: attributes[ours] for ours, theirs in names.items() if attributes.get(ours)}
        return pads, given


class Conv(_Convolution):
    def _run(self, x: Array, weight: Array, bias: Array | None = None, **attributes: Any) -> tuple[Array]:
        pads, given = self._parameters(x, weight, attributes)
        rank = x.ndim - 2
        padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
        convolve = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}[rank]
        return (convolve(torch.tensor(padded), torch.tensor(weight), _tensor(bias), **given).numpy(),)


class ConvTranspose(_Convolution):
    def _run(self, x: Array, weight: Array, bias: Array | None = None, **attributes: Any) -> tuple[Array]:
        pads, given = self._parameters(x, weight, attributes)
        rank = x.ndim - 2
        convolve = {1: torch.conv_transpose1d, 2: torch.conv_transpose2d, 3: torch.conv_transpose3d}[rank]
        extra = attributes.get("output_padding") or 0
        full = convolve(torch.tensor(x), torch.tensor(weight), _tensor(bias), output_padding=extra, **given).numpy()
        for axis, (low, high) in enumerate(zip(pads[:rank], pads[rank:], strict=True), 2):
            full = full.take(range(low, full.shape[axis] - high), axis)
        return (full,)


class BatchNormalization(OpRun):
    """In inference; for opsets before 14 the reference evaluator takes statistics of the batch into account."""

    op_domain = ""

    def _run(self, x: Array, *parameters: Array, **attributes: Any) -> tuple[Array]:
        scale, bias, mean, variance = (each.reshape(-1, *(1,) * (x.ndim - 2)) for each in parameters)
        return ((x - mean) / np.sqrt(variance + attributes["epsilon"]) * scale + bias,)


class Resize(SlowResize):
    """Resizing is linear along each axis: the reference evaluator, which takes long, resizes unit vectors only."""

    op_domain = ""

    def _run(self, *inputs: Any, **attributes: Any) -> tuple[Array]:
        x, _, scales = (*inputs, None, None)[:3]
        if scales is None or not scales.size or attributes.get("axes") or attributes["mode"] == "cubic":
            return super()._run(*inputs, **attributes)  # type: ignore[no-any-return]
        for axis, scale in enumerate(scales):
            if scale != 1:
                factors = np.array([1, scale], np.float32)
                (matrix,) = super()._run(np.eye(x.shape[axis]), None, factors, None, **attributes)
                x = np.moveaxis(np.tensordot(x, matrix, (axis, 0)), -1, axis)
        return (x,)


def _tensor(values: Array | None) -> torch.Tensor | None:
    return None if values is None else torch.tensor(values)
