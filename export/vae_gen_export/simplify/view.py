"""What one must know of a graph to rewrite it."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

Shape = tuple[int, ...]  # of one row, without the batch axis
Array = npt.NDArray[Any]

# Of the graphs that are made here: what onnxruntime has read since 1.10. Later versions add nothing that they use.
IR_VERSION = 8


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a graph is in."""
    return int(own_opset(model).version)


def own_opset(model: onnx.ModelProto) -> onnx.OperatorSetIdProto:
    """The entry that says so."""
    ours: onnx.OperatorSetIdProto = next(each for each in model.opset_import if each.domain in ("", "ai.onnx"))
    return ours


class View:
    """A graph with its constants, its shapes and who uses what; made anew after each change of the graph.

    A shape is known where all sizes but the first, which is taken for the batch, are, and none is 0.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.graph = model.graph
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self.constants = constants_of(model.graph)
        self.outputs = {value.name for value in model.graph.output}
        self.users: dict[str, list[int]] = {}  # tensor -> numbers of the nodes that take it
        for number, node in enumerate(self.nodes):
            for name in set(node.input):
                self.users.setdefault(name, []).append(number)
        self.producer = {name: number for number, node in enumerate(self.nodes) for name in node.output if name}

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        graph = onnx.shape_inference.infer_shapes(self.model, data_prop=True).graph
        shapes = {}
        for value in (*graph.input, *graph.value_info, *graph.output):
            kind = value.type.tensor_type
            dims = kind.shape.dim
            if (
                kind.elem_type == onnx.TensorProto.FLOAT
                and len(dims) > 1
                and all(dim.dim_value > 0 for dim in dims[1:])
            ):
                shapes[value.name] = tuple(dim.dim_value for dim in dims[1:])
        return shapes

    @cached_property
    def batch(self) -> int | None:
        """The size of the inputs' first axis where the graph fixes it."""
        for value in self.graph.input:
            dims = value.type.tensor_type.shape.dim
            if dims and dims[0].HasField("dim_value"):
                return int(dims[0].dim_value)
        return None

    @property
    def opset(self) -> int:
        return opset_of(self.model)

    def size(self, name: str) -> int:
        return math.prod(self.shapes[name])

    def variable_inputs(self, node: onnx.NodeProto) -> list[int]:
        """The positions of the inputs that are no constants."""
        return [position for position, name in enumerate(node.input) if name and name not in self.constants]

    def constant_input(self, node: onnx.NodeProto, position: int) -> Array | None:
        return self.constants.get(node.input[position]) if position < len(node.input) else None

    def is_used_outside(self, name: str, nodes: set[int]) -> bool:
        """Whether `name` is an output of the graph or goes into a node that is not one of `nodes`."""
        return name in self.outputs or not nodes.issuperset(self.users.get(name, ()))

    @cached_property
    def _names(self) -> set[str]:
        return {*self.producer, *self.constants, *self.users, *(value.name for value in self.graph.input)}

    def unused_name(self, name: str) -> str:
        """A name like `name` that the graph does not have, given once."""
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def constants_of(graph: onnx.GraphProto) -> dict[str, Array]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


def keep_shapes(graph: onnx.GraphProto, names: set[str]) -> None:
    """Of the shapes noted in the graph, keep those of these tensors; anyone can infer the others."""
    kept = [value for value in graph.value_info if value.name in names]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def as_float64(values: Array) -> Array:
    return values.astype(np.float64) if np.issubdtype(values.dtype, np.floating) else values
