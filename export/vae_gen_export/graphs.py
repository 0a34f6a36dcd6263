"""A PyTorch network -> a plain ONNX graph, with nothing in it that an engine could stumble over."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnxscript.optimizer
import torch
from torch import Tensor, nn
from vae_gen.errors import NetworkError

from vae_gen_export.blame import blame
from vae_gen_export.plain import OPSET, clean
from vae_gen_export.silence import silence

OURS = "vae-gen."


def trace(network: nn.Module, example: Tensor, input_name: str, output_names: Sequence[str]) -> onnx.ModelProto:
    """The graph of `network`, of which `example` [batch, ...] is an input, with the one free axis `batch`.

    Raises NetworkError if PyTorch cannot follow what the network does, or only with an `if` or a loop in the graph.
    """
    try:
        with silence():
            program = torch.onnx.export(
                network,
                (example,),
                input_names=[OURS + input_name],  # names that no value within the network has
                output_names=[OURS + name for name in output_names],
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter's own, about whatever was raised within it
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        outputs = " and ".join(output_names)
        raise NetworkError(
            f"PyTorch cannot make a graph of what turns {input_name} into {outputs}: {blame(cause)}. "
            "It follows no `if` and no loop that depends on values, and needs an ONNX operator for everything"
        ) from error
    assert program is not None
    no_limit = 2**40  # fold constants of any size: turned kernels are computed here, not in every engine
    graph = onnxscript.optimizer.optimize(program.model_proto, input_size_limit=no_limit, output_size_limit=no_limit)
    choosing = [node.op_type for node in graph.graph.node if any(each.HasField("g") for each in node.attribute)]
    if choosing:
        raise NetworkError(
            f"PyTorch makes a graph with {choosing[0]} of what turns {input_name} into {' and '.join(output_names)}, "
            "and no graph of a bundle has an `if` or a loop that depends on values, not even by torch.cond. "
            "Compute both ways and choose with torch.where"
        )
    plain = clean(_renamed(graph))
    for value in (*plain.graph.input, *plain.graph.output):
        batch = value.type.tensor_type.shape.dim[0]
        if not batch.dim_param:
            raise NetworkError(
                f"PyTorch makes a graph with {value.name} of {batch.dim_value} rows and no other number: the network "
                "takes the batch size for a constant. Use x.shape[0] or -1 where it reshapes, and no `if` on it"
            )
    return plain


def _renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Inputs and outputs without OURS; what else has such a name, as PyTorch calls the value of a mean, gives way."""
    ours = {value.name for value in (*model.graph.input, *model.graph.output)}
    names = {name: name.removeprefix(OURS) for name in ours} | {name.removeprefix(OURS): name for name in ours}
    for node in model.graph.node:
        for listed in (node.input, node.output):
            listed[:] = [names.get(name, name) for name in listed]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        value.name = names.get(value.name, value.name)
    return model
