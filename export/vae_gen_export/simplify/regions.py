"""Where a graph is affine: the parts of it whose tensors are all affine functions of one tensor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx

from vae_gen_export.simplify.agreement import ROUNDING, session
from vae_gen_export.simplify.evaluation import Float64, Subgraph
from vae_gen_export.simplify.rows import keeps_rows
from vae_gen_export.simplify.view import IR_VERSION, Array, View, attributes

# Affine in their first input when all others are constants, or absent.
AFFINE_IN_FIRST = {
    "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace", "Div", "Dropout", "Flatten", "Gather",
    "Gemm", "GlobalAveragePool", "Identity", "Neg", "Pad", "ReduceMean", "ReduceSum", "Reshape", "Resize", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
# Affine in any one input when all others are constants.
AFFINE_IN_ONE = {"MatMul", "Mul"}
# Affine in all inputs together.
AFFINE_IN_ALL = {"Add", "Concat", "Sub", "Sum"}
PROBES = 3


@dataclass(frozen=True)
class Region:
    """Nodes, in the graph's order, that make affine functions of the tensor `source`, and nothing else."""

    view: View
    source: str
    nodes: tuple[int, ...]  # their numbers

    @cached_property
    def probe(self) -> dict[str, Float64]:
        """What some random rows of the source become: each tensor's values, [rows, ...].

        Raises ValueError, or what the evaluators raise, where the nodes do not work on each row by itself, or where
        onnxruntime makes something else of them: they differ on AveragePool's ceil_mode and some of Resize's modes.
        """
        rows = np.random.default_rng(0).standard_normal((self.view.batch or PROBES, *self.view.shapes[self.source]))
        nodes = [self.view.nodes[number] for number in self.nodes]
        names = [name for node in nodes for name in node.output if name]
        together = subgraph(self.view, nodes, self.source, names)(rows)
        alone = subgraph(self.view, nodes, self.source, names)(rows[-1:])
        for name, both, one in zip(names, together, alone, strict=True):
            if both.shape[1:] != self.view.shapes[name] or not np.allclose(both[-1:], one, rtol=1e-9, atol=1e-12):
                raise ValueError(f"{name} mixes rows of the batch")
        for name, ours, theirs in zip(names, together, self._run(nodes, names, rows), strict=True):
            if ours.shape != theirs.shape or not np.abs(ours - theirs).max() <= ROUNDING * np.abs(ours).max():
                raise ValueError(f"{name} is something else in onnxruntime")
        return {self.source: rows, **dict(zip(names, together, strict=True))}

    def _run(self, nodes: list[onnx.NodeProto], names: list[str], rows: Float64) -> list[Array]:
        """The same in float32, by onnxruntime."""
        used = {name for node in nodes for name in node.input}
        tensors = [
            onnx.numpy_helper.from_array(values, name) for name, values in self.view.constants.items() if name in used
        ]
        source, *outputs = (
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in (self.source, *names)
        )
        graph = onnx.helper.make_graph(nodes, "region", [source], outputs, tensors)
        model = onnx.helper.make_model(graph, opset_imports=self.view.model.opset_import, ir_version=IR_VERSION)
        made: list[Array] = session(model).run(names, {self.source: rows.astype(np.float32)})
        return made


def subgraph(view: View, nodes: list[onnx.NodeProto], source: str, outputs: list[str]) -> Subgraph:
    return Subgraph(nodes, view.constants, source, outputs, view.model.opset_import, view.batch)


def regions(view: View) -> Iterator[tuple[Region, list[Region]]]:
    """Every largest region, and those parts of it that serve one of its results alone."""
    for source, nodes in _largest(view).items():
        whole = Region(view, source, tuple(nodes))
        yield whole, [part for part in _parts(whole) if len(part.nodes) < len(nodes)]


def _largest(view: View) -> dict[str, list[int]]:
    source_of = {value.name: value.name for value in view.graph.input}
    found: dict[str, list[int]] = {}
    for number, node in enumerate(view.nodes):
        sources = {source_of[node.input[position]] for position in view.variable_inputs(node)}
        affine = len(sources) == 1 and sources <= view.shapes.keys() and _is_affine(view, node)
        if affine:
            (source,) = sources
            found.setdefault(source, []).append(number)
        for name in node.output:
            source_of[name] = source if affine else name
    return found


def _is_affine(view: View, node: onnx.NodeProto) -> bool:
    variable = view.variable_inputs(node)
    if node.domain or any(attribute.HasField("g") for attribute in node.attribute):
        return False
    if node.op_type == "BatchNormalization" and (attributes(node).get("training_mode") or len(node.output) > 1):
        return False
    if node.op_type == "Dropout" and (len(node.output) > 1 or bool(view.constant_input(node, 2))):
        return False
    affine = (
        (node.op_type in AFFINE_IN_FIRST and variable == [0])
        or (node.op_type in AFFINE_IN_ONE and len(variable) == 1)
        or node.op_type in AFFINE_IN_ALL
    )
    return affine and keeps_rows(view, node)


def _parts(whole: Region) -> Iterator[Region]:
    """For each tensor that is wanted outside: the nodes that make nothing but it, if they begin at one tensor."""
    view, inside = whole.view, set(whole.nodes)
    for last in whole.nodes:
        if not any(view.is_used_outside(name, inside) for name in view.nodes[last].output):
            continue
        serving = {last}
        for number in reversed([each for each in whole.nodes if each < last]):
            if not any(view.is_used_outside(name, serving) for name in view.nodes[number].output):
                serving.add(number)
        made = {name for number in serving for name in view.nodes[number].output}
        taken = {
            view.nodes[number].input[position]
            for number in serving
            for position in view.variable_inputs(view.nodes[number])
        }
        if len(taken - made) == 1:
            (source,) = taken - made
            yield Region(view, source, tuple(sorted(serving)))
