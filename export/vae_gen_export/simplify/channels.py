"""Channels that nothing depends on, or that are always the same: taken out.

Between two layers with weights stand activations, each value by itself, and perhaps a Flatten. A channel between
them that the second layer weighs with zero everywhere is not needed. One that the first layer makes with weights
of zero is a constant: what the second layer makes of it goes into that one's bias, and then it is not needed either.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import onnx

from vae_gen_export.simplify.evaluation import Float64, Subgraph
from vae_gen_export.simplify.rows import keeps_rows
from vae_gen_export.simplify.view import View, as_float64, attributes

ACTIVATIONS = {
    "Abs", "Clip", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Neg", "Relu", "Selu",
    "Sigmoid", "Softplus", "Softsign", "Tanh",
}  # fmt: skip
FLATTENING = {"Flatten", "Reshape"}


@dataclass(frozen=True)
class Removal:
    """Channels that were taken out of what the layer `output` makes."""

    output: str
    removed: int
    remaining: int


@dataclass(frozen=True)
class Layer:
    """A node with weights, and these in one order."""

    node: onnx.NodeProto
    weight: Float64  # [out, in, kernel...]
    bias: Float64  # [out]

    @property
    def adds_zeros(self) -> bool:
        """Whether some of its outputs see the padding instead of the input."""
        return self.node.op_type == "ConvTranspose" or any(attributes(self.node).get("pads", ()))

    @classmethod
    def of(cls, view: View, number: int) -> Layer | None:
        node, given = view.nodes[number], attributes(view.nodes[number])
        weight, bias = view.constant_input(node, 1), view.constant_input(node, 2)
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or weight is None or weight.ndim < 2:
            return None
        if view.variable_inputs(node) != [0] or not keeps_rows(view, node) or not weight.size:
            return None
        if node.op_type in ("Gemm", "MatMul") and (weight.ndim != 2 or len(view.shapes[node.input[0]]) != 1):
            return None
        neutral = {"group": 1, "transA": 0, "alpha": 1.0, "beta": 1.0, "auto_pad": b"NOTSET"}
        if any(given.get(name, value) != value for name, value in neutral.items()):
            return None
        seen: Float64 = as_float64(np.swapaxes(weight, 0, 1) if _is_turned(node) else weight)
        full = np.zeros(len(seen)) if bias is None else np.broadcast_to(as_float64(bias).reshape(-1), (len(seen),))
        return cls(node, seen, full)


def _is_turned(node: onnx.NodeProto) -> bool:
    """Whether the graph holds a layer's weights as [in, out, kernel...]."""
    return node.op_type in ("ConvTranspose", "MatMul") or (
        node.op_type == "Gemm" and not attributes(node).get("transB")
    )


def remove_channels(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[Removal]]:
    """`model` without the channels that make no difference, and which were taken out."""
    removals: list[Removal] = []
    while True:
        view = View(model)
        found = (_narrowed(view, first, between, second) for first, between, second in _pairs(view))
        changed = next((each for each in found if each), None)
        if changed is None:
            return model, removals
        model = changed[0]
        removals.append(changed[1])


def _pairs(view: View) -> Iterator[tuple[Layer, list[onnx.NodeProto], Layer]]:
    """Two layers, and what stands between them."""
    for number in range(len(view.nodes)):
        first = Layer.of(view, number)
        between: list[onnx.NodeProto] = []
        name = view.nodes[number].output[0]
        while first and name not in view.outputs and len(users := view.users.get(name, [])) == 1:
            node = view.nodes[users[0]]
            if second := Layer.of(view, users[0]):
                yield first, between, second
                break
            flattens = node.op_type in FLATTENING and len(view.shapes.get(node.output[0], ())) == 1
            if view.variable_inputs(node) != [0] or not (node.op_type in ACTIVATIONS or flattens):
                break
            if not keeps_rows(view, node):
                break
            between.append(node)
            name = node.output[0]


def _narrowed(
    view: View, first: Layer, between: list[onnx.NodeProto], second: Layer
) -> tuple[onnx.ModelProto, Removal] | None:
    channels = len(first.weight)
    weights = second.weight.reshape(len(second.weight), channels, -1)  # a channel's places lie together when flattened
    constant = np.array([not row.any() for row in first.weight])
    values = _activated(view, first, between)
    if second.adds_zeros:
        constant &= values == 0
    needed = np.array([weights[:, channel].any() for channel in range(channels)]) & ~constant
    needed[0] |= not needed.any()  # a layer has one channel at least
    if needed.all():
        return None
    bias = second.bias + np.where(needed, 0, weights.sum(2) * values).sum(1)

    model = deepcopy(view.model)
    graph = model.graph
    _set(view, graph, first, first.weight[needed], first.bias[needed])
    kernel = second.weight.shape[2:]
    _set(view, graph, second, weights[:, needed].reshape(len(weights), -1, *kernel), bias)
    for node in graph.node:
        if node.output[0] in {each.output[0] for each in between if each.op_type == "Reshape"}:
            node.CopyFrom(onnx.helper.make_node("Flatten", [node.input[0]], [node.output[0]], axis=1))
    del graph.value_info[:]
    return model, Removal(first.node.output[0], int((~needed).sum()), int(needed.sum()))


def _activated(view: View, first: Layer, between: list[onnx.NodeProto]) -> Float64:
    """What a channel is where the first layer's weights do nothing, [out]."""
    activations = [node for node in between if node.op_type in ACTIVATIONS]
    if not activations:
        return first.bias
    source, names = first.node.output[0], [node.output[0] for node in activations]
    chained = []
    for node, name in zip(activations, [source, *names], strict=False):
        copy = deepcopy(node)
        copy.input[0] = name
        chained.append(copy)
    run = Subgraph(chained, view.constants, source, names[-1:], view.model.opset_import, None)
    (values,) = run(first.bias[None])
    return np.asarray(values[0])


def _set(view: View, graph: onnx.GraphProto, layer: Layer, weight: Float64, bias: Float64) -> None:
    node = next(node for node in graph.node if node.output[0] == layer.node.output[0])
    held = np.swapaxes(weight, 0, 1) if _is_turned(node) else weight
    has_bias = bias.any() or view.opset < 11  # before, Gemm always has one
    parameters = {"weight": held} | ({"bias": bias} if has_bias else {})
    names = [view.unused_name(f"{node.output[0]}.{suffix}") for suffix in parameters]
    for name, values in zip(names, parameters.values(), strict=True):
        graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    if node.op_type == "MatMul":
        node.op_type = "Gemm"  # which has a bias
    del node.input[1:]
    node.input.extend(names)
