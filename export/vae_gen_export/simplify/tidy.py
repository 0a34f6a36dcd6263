"""Constants computed, and nothing in the graph twice or for nobody: by the passes of onnxscript and onnx_ir."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
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


def store_in_half(model: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Store weights of `model` in half precision again where `original` does, and casts them to what they still are.

    The casts have been computed, and what they made takes twice the bytes.
    """
    kinds = onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16
    halves = {tensor.name: tensor for tensor in original.graph.initializer if tensor.data_type in kinds}
    casts = {node.output[0]: node for node in original.graph.node if node.op_type == "Cast" and node.input[0] in halves}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    again = [casts[name] for name, tensor in stored.items() if name in casts and _is_cast(halves, casts[name], tensor)]
    for cast in again:
        stored[cast.input[0]] = halves[cast.input[0]]
        del stored[cast.output[0]]
    graph, nodes, tensors = model.graph, [*again, *model.graph.node], [*stored.values()]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)


def _is_cast(halves: dict[str, onnx.TensorProto], cast: onnx.NodeProto, tensor: onnx.TensorProto) -> bool:
    values = onnx.numpy_helper.to_array(tensor)
    return np.array_equal(onnx.numpy_helper.to_array(halves[cast.input[0]]).astype(values.dtype), values)


def _give_back(graph: onnx.GraphProto, outputs: list[onnx.ValueInfoProto]) -> None:
    """What is the same has become one: make each output of its own name and type again."""
    for value, output in zip(graph.output, outputs, strict=True):
        if value.name != output.name:
            graph.node.append(onnx.helper.make_node("Identity", [value.name], [output.name]))
        value.CopyFrom(output)
