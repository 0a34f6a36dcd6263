"""A PyTorch network -> two plain ONNX graphs, with nothing in them that an engine could stumble over."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable

import onnx
import onnxscript.optimizer
import torch
from torch import Tensor, nn
from vae_gen.images import ImageShape
from vae_gen_train.nets import VAE

OPSET = 18
# Attributes that say what their absence says too, but that some engines reject when they see them. (allowzero
# decides what a 0 in a new shape means, and there is none in these.)
NEUTRAL_ATTRIBUTES = {"auto_pad": b"NOTSET", "output_padding": [0, 0], "allowzero": 1, "group": 1, "dilations": [1, 1]}
NEUTRAL_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}


def trace(vae: VAE, image_shape: ImageShape, latent_dim: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The encoder's and the decoder's graph, with the one free axis `batch`."""
    vae = vae.eval().cpu()
    encoder = _trace(vae.encoder, torch.rand(2, *image_shape), "image", ["mean", "log_var"])
    decoder = _trace(vae.decoder, torch.randn(2, latent_dim), "z", ["image"])
    return encoder, decoder


def _trace(network: nn.Module, example: Tensor, input_name: str, output_names: list[str]) -> onnx.ModelProto:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (example,),
            input_names=[input_name],
            output_names=output_names,
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    no_limit = 2**40  # fold constants of any size: turned kernels are computed here, not in every engine
    graph = onnxscript.optimizer.optimize(program.model_proto, input_size_limit=no_limit, output_size_limit=no_limit)
    return clean(graph)


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without notes of the exporter (they hold paths) and without attributes that say nothing."""
    graph = model.graph
    nodes = []
    for node in graph.node:
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        neutral = NEUTRAL_GEMM if node.op_type == "Gemm" else NEUTRAL_ATTRIBUTES
        kept = {name: value for name, value in attributes.items() if neutral.get(name, ...) != value}
        nodes.append(onnx.helper.make_node(node.op_type, node.input, node.output, domain=node.domain, **kept))
    plain = onnx.helper.make_graph(
        nodes,
        "graph",
        [_plain_value(value) for value in graph.input],
        [_plain_value(value) for value in graph.output],
        [_plain_tensor(tensor) for tensor in graph.initializer],
    )
    return onnx.helper.make_model(plain, opset_imports=[onnx.helper.make_opsetid("", OPSET)])


def _plain_value(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    tensor = value.type.tensor_type
    shape: Iterable[str | int] = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return onnx.helper.make_tensor_value_info(value.name, tensor.elem_type, list(shape))


def _plain_tensor(tensor: onnx.TensorProto) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name)
