"""The forms that an affine part of a graph can take, with what each would cost.

A form is estimated from shapes alone. Only the ones chosen are built: their numbers are read off from the part
itself, run in float64 on zero and on unit values, and the result is compared with the part on random rows. So a
form that was thought possible and is not (a border that comes out otherwise, say) is found out and not used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from vae_gen_export.simplify.costs import multiply_adds, total_multiply_adds
from vae_gen_export.simplify.evaluation import Float64, Subgraph, matrix_of
from vae_gen_export.simplify.regions import Region, subgraph
from vae_gen_export.simplify.view import Array, Shape, View

# Between a part and its new form, place by place: channels may differ in magnitude, and each counts.
AGREEMENT = 1e-9  # of the largest value that the place has; float64 gives 1e-14 or so
CANCELLED = 1e-14  # of the largest value of all: what rounding leaves where sums cancel
SAME = 1e-12  # of what a place makes of inputs of about 1: what is one number but for rounding in float64
SCALING = {"BatchNormalization", "Div", "Mul", "Neg"}
SHIFTING = {"Add", "BatchNormalization", "Sub"}
# A dense layer has at most so many weights, a quarter of a gigabyte, and what it replaces is run once for each of its
# inputs: so many multiply-adds take about a minute.
MOST_WEIGHTS = 2**26
MOST_WORK = 2**38
NO_EFFECT = {"Dropout", "Identity"}

Cost = tuple[int, int]  # multiply-adds of a row, and then nodes


@dataclass(frozen=True)
class Part:
    """Some nodes of a region that make `outputs` from `source`."""

    region: Region
    source: str
    nodes: tuple[int, ...]
    outputs: tuple[str, ...]

    @property
    def view(self) -> View:
        return self.region.view

    @property
    def operations(self) -> tuple[str, ...]:
        return tuple(self.view.nodes[number].op_type for number in self.nodes)

    @property
    def cost(self) -> Cost:
        return sum(multiply_adds(self.view, self.view.nodes[number]) for number in self.nodes), len(self.nodes)

    def run(self) -> Subgraph:
        return subgraph(self.view, [self.view.nodes[number] for number in self.nodes], self.source, [*self.outputs])


@dataclass
class Form:
    """Nodes and constants, float64 until they go into a graph, that make the same."""

    part: Part
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def name(self, wish: str) -> str:
        return self.part.view.unused_name(wish)

    def constant(self, suffix: str, values: Array) -> str:
        name = self.name(f"{'_'.join(self.part.outputs)}.{suffix}")
        self.constants[name] = values
        return name

    def node(self, operation: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        self.nodes.append(onnx.helper.make_node(operation, inputs, outputs, **attributes))
        return outputs[0]

    def tensors(self) -> list[onnx.TensorProto]:
        """The constants as they go into a graph: rounded to float32, once."""
        return [
            onnx.numpy_helper.from_array(values.astype(np.float32) if values.dtype == np.float64 else values, name)
            for name, values in self.constants.items()
        ]

    @cached_property
    def cost(self) -> Cost:
        """What it really costs, once it is whole."""
        part = self.part
        source, *outputs = (
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *part.view.shapes[name]])
            for name in (part.source, *part.outputs)
        )
        graph = onnx.helper.make_graph(self.nodes, "form", [source], outputs, self.tensors())
        view = View(onnx.helper.make_model(graph, opset_imports=part.view.model.opset_import))
        return total_multiply_adds(view), len(self.nodes)

    def agrees(self) -> bool:
        """Whether it makes of random rows what the part makes of them."""
        part = self.part
        rows = part.region.probe[part.source]
        made = Subgraph(
            self.nodes, self.constants, part.source, part.outputs, part.view.model.opset_import, part.view.batch
        )(rows)
        expected = [part.region.probe[name] for name in part.outputs]
        return all(map(_are_close, made, expected))


def _are_close(found: Float64, expected: Float64) -> bool:
    if found.shape != expected.shape:
        return False
    magnitudes = np.abs(expected)
    tolerance = AGREEMENT * magnitudes.max(0) + CANCELLED * magnitudes.max()
    return bool((np.abs(found - expected) <= tolerance).all())


@dataclass(frozen=True)
class Choice:
    """A form that a part could take: the cost that it is thought to have, and how to make it (None: it cannot)."""

    name: str
    cost: Cost
    build: Callable[[Part], Form | None]


def choices(part: Part) -> list[Choice]:
    found = [nothing(part), scaling(part), dense(part)]
    return [choice for choice in found if choice is not None]


# Nothing at all, but for the shape


def nothing(part: Part) -> Choice | None:
    if len(part.outputs) != 1:
        return None
    before, after = part.region.probe[part.source], part.region.probe[part.outputs[0]]
    if before.size != after.size or not np.array_equal(before.reshape(len(before), -1), after.reshape(len(after), -1)):
        return None
    same_shape = before.shape == after.shape
    return Choice("nothing", (0, 0 if same_shape and part.outputs[0] not in part.view.outputs else 1), _nothing)


def _nothing(part: Part) -> Form:
    form = Form(part)
    shape = part.view.shapes[part.outputs[0]]
    if shape == part.view.shapes[part.source]:
        form.node("Identity", [part.source], [*part.outputs])
    else:
        _reshape(form, part.source, shape, part.outputs[0])
    return form


# Each value by itself


def scaling(part: Part) -> Choice | None:
    kinds = set(part.operations)
    if len(part.outputs) != 1 or not kinds <= SCALING | SHIFTING | NO_EFFECT:
        return None
    operations = bool(kinds & SCALING) + bool(kinds & SHIFTING)
    return Choice("scaling", (operations * part.view.size(part.outputs[0]), max(1, operations)), _scaling)


def _scaling(part: Part) -> Form | None:
    shape = part.view.shapes[part.source]
    if part.view.shapes[part.outputs[0]] != shape:
        return None
    (values,) = part.run()(np.stack([np.zeros(shape), np.ones(shape)]))
    shift, scale = values[0], values[1] - values[0]
    made = np.abs(shift) + np.abs(scale)
    shift, scale = narrow(shift, made), narrow(scale, made)
    form = Form(part)
    name = part.source
    if (scale != 1).any():
        target = form.name(f"{part.source}.scaled") if shift.any() else part.outputs[0]
        name = form.node("Mul", [name, form.constant("scale", scale)], [target])
    if shift.any():
        name = form.node("Add", [name, form.constant("shift", shift)], [part.outputs[0]])
    return form if name == part.outputs[0] else _nothing(part)


def narrow(values: Float64, made: Float64) -> Float64:
    """With size 1 along each axis on which nothing changes, ready to be broadcast over the batch.

    `made` is what the part makes at each place of inputs of about 1, at the most.
    """
    close = SAME * made
    for axis in range(values.ndim):
        first = values.take([0], axis)
        if (np.abs(values - first) <= close).all():
            values, close = first, close.min(axis, keepdims=True)
    return values[None]


# One dense layer


def dense(part: Part) -> Choice | None:
    view = part.view
    weights = view.size(part.source) * sum(map(view.size, part.outputs))
    if weights > MOST_WEIGHTS or view.size(part.source) * part.cost[0] > MOST_WORK:
        return None
    nodes = 1 + (len(view.shapes[part.source]) != 1) + (len(part.outputs) > 1)
    nodes += sum(len(view.shapes[name]) != 1 for name in part.outputs)
    return Choice("dense", (weights, nodes), _dense)


def _dense(part: Part) -> Form:
    view, outputs = part.view, part.outputs
    weight, bias = matrix_of(part.run(), view.shapes[part.source])
    form = Form(part)
    rows = part.source
    if len(view.shapes[rows]) != 1:
        rows = form.node("Flatten", [rows], [form.name(f"{rows}.flat")], axis=1)
    flat = {name: name if len(view.shapes[name]) == 1 else form.name(f"{name}.flat") for name in outputs}
    has_bias = bias.any() or view.opset < 11  # before, Gemm always has one
    parameters = [form.constant("weight", weight), *([form.constant("bias", bias)] if has_bias else [])]
    if len(outputs) == 1:
        form.node("Gemm", [rows, *parameters], [flat[outputs[0]]], transB=1)
    else:
        together = form.node("Gemm", [rows, *parameters], [form.name(f"{'_'.join(outputs)}.together")], transB=1)
        sizes = [view.size(name) for name in outputs]
        if view.opset < 13:
            form.node("Split", [together], [*flat.values()], axis=1, split=sizes)
        else:
            form.node("Split", [together, form.constant("sizes", np.array(sizes))], [*flat.values()], axis=1)
    for name in outputs:
        if flat[name] != name:
            _reshape(form, flat[name], view.shapes[name], name)
    return form


def _reshape(form: Form, source: str, shape: Shape, output: str) -> None:
    form.node("Reshape", [source, form.constant("shape", np.array([-1, *shape], np.int64))], [output])
