"""Constants computed, and nothing in the graph twice or for nobody: by the passes of onnxscript and onnx_ir."""

from __future__ import annotations

import onnx
import onnx_ir
import onnxscript.optimizer
from onnx_ir.passes import Sequential, common

NO_LIMIT = 2**40


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` whose constants are computed and stand once, as initialisers, without nodes that do nothing.

    Functions of the model itself are inlined. Initialisers are no inputs that could be overridden.
    """
    graph = onnx_ir.from_proto(model)
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
    return onnx_ir.to_proto(graph)
