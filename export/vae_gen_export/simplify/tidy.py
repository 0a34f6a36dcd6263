"""Constants computed, and nothing in the graph twice or for nobody: by the passes of onnxscript and onnx_ir."""

from __future__ import annotations

from copy import deepcopy

import onnx
import onnx_ir
import onnxscript.optimizer
from onnx_ir.passes import Sequential, common

NO_LIMIT = 2**40


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` whose constants are computed and stand once, as initialisers, without nodes that do nothing.

    Functions of the model itself are inlined. Initialisers are no inputs that could be overridden.
    """
    renamed = deepcopy(model)
    for named in (*renamed.opset_import, *renamed.graph.node):
        named.domain = "" if named.domain == "ai.onnx" else named.domain
    graph = onnx_ir.from_proto(renamed)
    graph.ir_version = max(graph.ir_version, 4)  # before, initialisers had to be inputs
    Sequential(
        common.InlinePass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveInitializersFromInputsPass(),
    )(graph)
    onnxscript.optimizer.fold_constants_ir(graph, input_size_limit=NO_LIMIT, output_size_limit=NO_LIMIT)
    Sequential(
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.IdentityEliminationPass(),
        common.DeduplicateInitializersPass(size_limit=NO_LIMIT),
        common.CommonSubexpressionEliminationPass(size_limit=NO_LIMIT),
        common.RemoveUnusedNodesPass(),
    )(graph)
    tidied = onnx_ir.to_proto(graph)
    _give_back(tidied.graph, list(model.graph.output))
    return tidied


def _give_back(graph: onnx.GraphProto, outputs: list[onnx.ValueInfoProto]) -> None:
    """What is the same has become one: make each output of its own name and type again."""
    for value, output in zip(graph.output, outputs, strict=True):
        if value.name != output.name:
            graph.node.append(onnx.helper.make_node("Identity", [value.name], [output.name]))
        value.CopyFrom(output)
