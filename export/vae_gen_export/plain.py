"""Graphs in the plain form that every engine reads: no notes, no attributes that say nothing, no `output_padding`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx

from vae_gen_export.simplify.view import Array, attributes, constants_of, opset_of

OPSET = 18  # in which PyTorch writes graphs
# Attributes that say what their absence says too, but that some engines reject when they see them. (allowzero
# decides what a 0 in a new shape means, and there is none in these.)
NEUTRAL_ATTRIBUTES = {"auto_pad": b"NOTSET", "output_padding": [0, 0], "allowzero": 1, "group": 1, "dilations": [1, 1]}
NEUTRAL_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without notes of the exporter (they hold paths) and without what only some engines read."""
    graph = model.graph
    constants = constants_of(graph)
    nodes = []
    for node in graph.node:
        given = attributes(node)
        inputs = list(node.input)
        if node.op_type == "ConvTranspose" and inputs[1] in constants:
            weight, given = _plain_transposed(constants[inputs[1]], given)
            if weight is not constants[inputs[1]]:
                inputs[1] = f"{node.output[0]}_weight"
                constants[inputs[1]] = weight
        neutral = NEUTRAL_GEMM if node.op_type == "Gemm" else NEUTRAL_ATTRIBUTES
        kept = {name: value for name, value in given.items() if neutral.get(name, ...) != value}
        nodes.append(onnx.helper.make_node(node.op_type, inputs, node.output, domain=node.domain, **kept))
    used = {name for node in nodes for name in node.input}
    plain = onnx.helper.make_graph(
        nodes,
        "graph",
        [_plain_value(value) for value in graph.input],
        [_plain_value(value) for value in graph.output],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items() if name in used],
    )
    return onnx.helper.make_model(plain, opset_imports=[onnx.helper.make_opsetid("", opset_of(model))])


def _plain_transposed(weight: Array, given: dict[str, Any]) -> tuple[Array, dict[str, Any]]:
    """The same transposed convolution in one group and without `output_padding`, exactly.

    `weight` is [in, out / group, kernel...]. Output padding is that much less taken off at the end. Where less is
    taken off than it asks for, the kernel gets zeros at its end, which make the output longer and change no value.
    """
    groups = given.get("group", 1)
    if groups > 1:
        inputs, outputs = weight.shape[0] // groups, weight.shape[1]
        whole = np.zeros((weight.shape[0], groups * outputs, *weight.shape[2:]), weight.dtype)
        for group in range(groups):
            rows = slice(group * inputs, (group + 1) * inputs)
            whole[rows, group * outputs : (group + 1) * outputs] = weight[rows]
        weight = whole
    sides = weight.ndim - 2
    extra = given.get("output_padding", [0] * sides)
    if any(extra):
        pads = given.get("pads", [0] * 2 * sides)
        dilations = given.get("dilations", [1] * sides)
        longer = [
            -(-max(0, more - pad) // step) for more, pad, step in zip(extra, pads[sides:], dilations, strict=True)
        ]
        if any(longer):
            weight = np.pad(weight, [(0, 0), (0, 0), *((0, zeros) for zeros in longer)])
        ends = [
            pad + zeros * step - more
            for pad, zeros, step, more in zip(pads[sides:], longer, dilations, extra, strict=True)
        ]
        given = {**given, "pads": [*pads[:sides], *ends]}
    same = {name: value for name, value in given.items() if name not in ("group", "output_padding")}
    return weight, {**same, "kernel_shape": list(weight.shape[2:])}


def _plain_value(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    tensor = value.type.tensor_type
    shape: Iterable[str | int] = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return onnx.helper.make_tensor_value_info(value.name, tensor.elem_type, list(shape))
