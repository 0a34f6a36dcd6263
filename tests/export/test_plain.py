"""Transposed convolutions in plain form against PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn
from vae_gen_export.graphs import trace
from vae_gen_export.plain import clean

FORBIDDEN = {"output_padding", "output_shape", "auto_pad", "group"}


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},  # taken from the end's padding
        {"kernel_size": 3, "stride": 3, "padding": 0, "output_padding": 2},  # beyond what the kernel reaches
        {"kernel_size": (4, 3), "stride": (3, 2), "padding": (1, 0), "output_padding": (2, 1)},
        {"kernel_size": 2, "stride": 5, "padding": 1, "output_padding": 4, "dilation": 3},
        {"kernel_size": 2, "stride": 4, "padding": 0, "output_padding": 3, "dilation": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2},
        {"kernel_size": 3, "stride": 2, "output_padding": 1, "groups": 4},
    ],
    ids=str,
)
def test_transposed_convolutions_lose_what_not_every_engine_reads(options: dict[str, Any]) -> None:
    layer = nn.ConvTranspose2d(4, 8, **options).eval()
    assert layer.bias is not None
    nn.init.normal_(layer.bias)
    graph = trace(layer, torch.rand(2, 4, 5, 6), "x", ["y"])
    (node,) = graph.graph.node
    attributes = {attribute.name for attribute in node.attribute}
    assert node.op_type == "ConvTranspose"
    assert not attributes & FORBIDDEN
    assert min(*onnx.helper.get_node_attr_value(node, "pads")) >= 0
    x = torch.rand(3, 4, 5, 6)
    (found,) = ReferenceEvaluator(graph).run(None, {"x": x.numpy()})
    with torch.no_grad():
        expected = layer.double()(x.double()).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_values_within_the_network_may_be_called_as_its_inputs_and_outputs_are() -> None:
    class Averaged(nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            z = torch.relu(image).mean((2, 3))  # PyTorch calls the value of a mean `mean`
            return z * 2, z + 1

    graph = trace(Averaged(), torch.rand(2, 3, 4, 5), "image", ["mean", "relu"])
    assert [value.name for value in (*graph.graph.input, *graph.graph.output)] == ["image", "mean", "relu"]
    image = np.random.default_rng(0).standard_normal((3, 3, 4, 5)).astype(np.float32)
    expected = np.maximum(image, 0).mean((2, 3))
    mean, other = ReferenceEvaluator(graph).run(None, {"image": image})
    np.testing.assert_allclose(mean, 2 * expected, rtol=1e-6)
    np.testing.assert_allclose(other, expected + 1, rtol=1e-6)


def test_a_layer_that_is_used_twice_keeps_its_weights_for_both() -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 4, 3, groups=2)
    network = nn.Sequential(layer, nn.Tanh(), layer).eval()
    graph = trace(network, torch.rand(2, 4, 5, 6), "x", ["y"])
    x = torch.rand(3, 4, 5, 6)
    (found,) = ReferenceEvaluator(graph).run(None, {"x": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, network.double()(x.double()).numpy(), atol=1e-5)


def test_only_what_says_nothing_is_left_out() -> None:
    neutral = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    telling = {"alpha": 0.5, "beta": 2.0, "transA": 1, "transB": 1}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["first"], **neutral),
        helper.make_node("Gemm", ["first", "w", "b"], ["second"], **telling),
        helper.make_node("Tanh", ["second"], ["y"], domain="other"),
    ]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 2]) for name in ("x", "y")]
    constants = [numpy_helper.from_array(np.ones((2, 2), np.float32), name) for name in ("w", "b", "unused")]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("other", 1)]
    plain = clean(
        helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], constants), opset_imports=opsets)
    )
    found = [{item.name: helper.get_attribute_value(item) for item in node.attribute} for node in plain.graph.node]
    assert found == [{}, telling, {}]
    assert [node.domain for node in plain.graph.node] == ["", "", "other"]
    assert [tensor.name for tensor in plain.graph.initializer] == ["w", "b"]
