"""Chains of affine operations -> one dense layer, exactly, wherever that is cheaper.

Two affine maps after one another are one affine map. Where a network has no activation between its
convolutions and dense layers, they are found here by following, from each tensor, everything that is an
affine function of it alone: a region. The map y = W x + b of a region is read off by running it, in
float64, on zero (which gives b) and on every basis vector (which gives W + b), so that padding and
cropping at the borders come out right by themselves. It replaces the region if it needs fewer
multiply-adds. Regions are taken as large as they can be; a cheaper one inside a larger one is not looked for.
Nothing in this file knows of autoencoders.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

Array = npt.NDArray[np.float64]

# Affine in their first input when the others are constants.
AFFINE = {"Conv", "ConvTranspose", "Flatten", "Gemm", "Identity", "MatMul", "Pad", "Reshape", "Slice", "Transpose"}
# Affine in any number of inputs, constants among them.
AFFINE_IN_ALL = {"Add", "Sub"}
ROWS = 64  # basis vectors pushed through at a time
AGREEMENT = 1e-9  # of the largest value, between a region and its map; float64 gives 1e-14 or so


@dataclass(frozen=True)
class Fold:
    """One region that became a dense layer."""

    source: str  # the tensor that all is a function of
    outputs: tuple[str, ...]
    operations: tuple[str, ...]
    multiply_adds_before: int  # per row of the batch
    multiply_adds_after: int


def fold_affine(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[Fold]]:
    """`model` with each affine region replaced by a dense layer where that is cheaper, and what was replaced.

    The graph has one input [batch, ...] and keeps the names of its inputs and outputs. A graph that holds others
    (If, Loop) or computes in anything but float32 is left as it is.
    """
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    if not _is_plain(folded.graph):
        return folded, []
    shapes = _shapes(folded)
    folds = []
    for source, nodes in _regions(folded.graph, shapes).items():
        outputs = _exits(folded.graph, nodes)
        before = multiply_adds(folded.graph, nodes, shapes)
        sizes = {name: math.prod(shapes[name]) for name in (source, *outputs)}
        after = sizes[source] * sum(sizes[name] for name in outputs)
        if after >= before:
            continue
        affine_map = _affine_map(folded, nodes, source, outputs, shapes)
        if affine_map is None:
            continue
        _replace(folded.graph, nodes, _dense(source, outputs, shapes, *affine_map, _names(folded.graph)))
        folds.append(Fold(source, tuple(outputs), tuple(node.op_type for node in nodes), before, after))
    _drop_unused_initializers(folded.graph)
    return folded, folds


def multiply_adds(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto], shapes: dict[str, tuple[int, ...]]) -> int:
    """The cost model: multiplications of the convolutions and matrix products, per row of the batch.

    Each output of a convolution takes a kernel's worth of them, and so does each input of a transposed one.
    """
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in nodes:
        if node.op_type == "Conv":  # weight [out, in / group, kernel...]
            total += math.prod(shapes[node.output[0]]) * math.prod(weights[node.input[1]][1:])
        elif node.op_type == "ConvTranspose":  # weight [in, out / group, kernel...]
            total += math.prod(shapes[node.input[0]]) * math.prod(weights[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul"):
            total += math.prod(shapes[node.input[0]]) * shapes[node.output[0]][-1]
    return total


def _regions(graph: onnx.GraphProto, shapes: dict[str, tuple[int, ...]]) -> dict[str, list[onnx.NodeProto]]:
    """For each tensor, the nodes (in order) whose outputs, of known shapes, are affine functions of it alone."""
    constants = {tensor.name for tensor in graph.initializer}
    source_of = {value.name: value.name for value in graph.input}
    regions: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        variable = [position for position, name in enumerate(node.input) if name and name not in constants]
        sources = {source_of[node.input[position]] for position in variable}
        affine = (node.op_type in AFFINE and variable == [0]) or (node.op_type in AFFINE_IN_ALL and len(sources) == 1)
        affine = affine and sources | set(node.output) <= shapes.keys()
        if affine:
            (source,) = sources
            regions.setdefault(source, []).append(node)
        for name in node.output:
            source_of[name] = source if affine else name
    return regions


def _exits(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> list[str]:
    """The tensors that a region makes for others: outputs of the graph, or inputs of nodes outside it."""
    inside = [name for node in nodes for name in node.output]
    wanted = {value.name for value in graph.output}
    wanted |= {name for node in graph.node if node not in nodes for name in node.input}
    return [name for name in inside if name in wanted]


def _affine_map(
    model: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    source: str,
    outputs: list[str],
    shapes: dict[str, tuple[int, ...]],
) -> tuple[Array, Array] | None:
    """(W [out, in], b [out]) of a region, outputs one after the other; None if it is no such map."""
    evaluator = ReferenceEvaluator(_float64_model(model, nodes, source, outputs), new_ops=[ConvTranspose])
    size = math.prod(shapes[source])

    def run(rows: Array) -> Array:
        results: Any = evaluator.run(None, {source: rows.reshape(-1, *shapes[source])})
        return np.concatenate([result.reshape(len(rows), -1) for result in results], axis=1)

    basis = np.eye(size)
    probe = np.random.default_rng(0).standard_normal((3, size))
    try:
        bias = run(np.zeros((1, size)))[0]
        weight = np.concatenate([run(basis[start : start + ROWS]) for start in range(0, size, ROWS)]).T - bias[:, None]
        expected = run(probe)
    except Exception:  # a shape that mixes rows, a variant that the evaluator does not know: not for us
        return None
    close = np.abs(probe @ weight.T + bias - expected).max() <= AGREEMENT * np.abs(expected).max()
    return (weight, bias) if close else None


def _float64_model(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], source: str, outputs: list[str]
) -> onnx.ModelProto:
    """A region alone, computed in float64."""
    used = {name for node in nodes for name in node.input}
    constants = []
    for tensor in model.graph.initializer:
        if tensor.name in used:
            values = onnx.numpy_helper.to_array(tensor)
            values = values.astype(np.float64) if np.issubdtype(values.dtype, np.floating) else values
            constants.append(onnx.numpy_helper.from_array(values, tensor.name))
    double = onnx.TensorProto.DOUBLE
    graph = onnx.helper.make_graph(
        nodes,
        "region",
        [onnx.helper.make_tensor_value_info(source, double, None)],
        [onnx.helper.make_tensor_value_info(name, double, None) for name in outputs],
        constants,
    )
    return onnx.helper.make_model(graph, opset_imports=model.opset_import)


class ConvTranspose(OpRun):
    """onnx's reference evaluator takes 12 seconds for what this does in a millisecond."""

    op_domain = ""

    def _run(self, x: Array, weight: Array, bias: Array | None = None, **attributes: Any) -> tuple[Array]:
        begin = attributes["pads"][: x.ndim - 2] if attributes.get("pads") else (0,) * (x.ndim - 2)
        end = attributes["pads"][x.ndim - 2 :] if attributes.get("pads") else begin
        if attributes.get("auto_pad") not in (None, "NOTSET") or attributes.get("output_shape"):
            raise NotImplementedError("ConvTranspose with auto_pad or output_shape")
        convolve = {3: torch.conv_transpose1d, 4: torch.conv_transpose2d, 5: torch.conv_transpose3d}[x.ndim]
        full = convolve(
            torch.tensor(x),
            torch.tensor(weight),
            None if bias is None else torch.tensor(bias),
            stride=attributes.get("strides") or 1,
            output_padding=attributes.get("output_padding") or 0,
            groups=attributes.get("group") or 1,
            dilation=attributes.get("dilations") or 1,
        ).numpy()
        for axis, (low, high) in enumerate(zip(begin, end, strict=True), 2):
            full = full.take(range(low, full.shape[axis] - high), axis)
        return (full,)


def _dense(
    source: str, outputs: list[str], shapes: dict[str, tuple[int, ...]], weight: Array, bias: Array, taken: set[str]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The nodes and constants of the dense layer that makes `outputs` from `source`; no new name is in `taken`."""
    nodes, constants = [], []

    def unused(name: str) -> str:
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    def constant(suffix: str, values: npt.NDArray[Any]) -> str:
        constants.append(onnx.numpy_helper.from_array(values, unused(f"{'_'.join(outputs)}.{suffix}")))
        return str(constants[-1].name)

    def node(operation: str, inputs: list[str], results: list[str], **attributes: int) -> list[str]:
        nodes.append(onnx.helper.make_node(operation, inputs, results, None, None, None, None, **attributes))
        return results

    rows = source
    if len(shapes[source]) != 1:
        (rows,) = node("Flatten", [source], [unused(f"{source}.flat")], axis=1)
    parameters = [constant("weight", weight.astype(np.float32)), constant("bias", bias.astype(np.float32))]
    flat = {name: name if len(shapes[name]) == 1 else unused(f"{name}.flat") for name in outputs}
    if len(outputs) == 1:
        node("Gemm", [rows, *parameters], [flat[outputs[0]]], transB=1)
    else:
        (together,) = node("Gemm", [rows, *parameters], [unused(f"{'_'.join(outputs)}.together")], transB=1)
        sizes = np.array([math.prod(shapes[name]) for name in outputs], np.int64)
        node("Split", [together, constant("sizes", sizes)], list(flat.values()), axis=1)
    for name in outputs:
        if flat[name] != name:
            node("Reshape", [flat[name], constant("shape", np.array([-1, *shapes[name]], np.int64))], [name])
    return nodes, constants


def _replace(
    graph: onnx.GraphProto, old: list[onnx.NodeProto], new: tuple[list[onnx.NodeProto], list[onnx.TensorProto]]
) -> None:
    """Put the new nodes where the first old one stood: its input is known there, and nobody needs more."""
    nodes, constants = new
    remaining: list[onnx.NodeProto] = []
    for node in graph.node:
        if node == old[0]:
            remaining += nodes
        if node not in old:
            remaining.append(node)
    remaining = [_copy(node) for node in remaining]
    del graph.node[:]
    graph.node.extend(remaining)
    graph.initializer.extend(constants)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _names(graph: onnx.GraphProto) -> set[str]:
    """Every tensor's name."""
    of_nodes = {name for node in graph.node for name in (*node.input, *node.output)}
    return of_nodes | {item.name for item in (*graph.input, *graph.output, *graph.initializer)}


def _is_plain(graph: onnx.GraphProto) -> bool:
    kinds = {tensor.data_type for tensor in graph.initializer} | {
        value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)
    }
    nested = any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute)
    return not nested and kinds <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


def _drop_unused_initializers(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Each tensor's shape without the batch axis, where all its sizes are known."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims[1:]):
            shapes[value.name] = tuple(dim.dim_value for dim in dims[1:])
    return shapes
