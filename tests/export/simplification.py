"""What tests of simplification share: networks and graphs, and a comparison with PyTorch in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from vae_gen_export.graphs import trace as trace_network
from vae_gen_export.simplify import Simplification, simplify


def operations(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def run(model: onnx.ModelProto, values: np.ndarray) -> list[np.ndarray]:
    model = onnx.ModelProto.FromString(model.SerializeToString())
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: values.astype(np.float32)})


def traced(network: nn.Module, *shape: int) -> onnx.ModelProto:
    return trace_network(network.eval(), torch.rand(2, *shape), "x", ["y"])


def assert_as_pytorch(model: onnx.ModelProto, network: nn.Module, *shape: int) -> None:
    for batch in (1, 3):
        x = torch.randn(batch, *shape, dtype=torch.float64)
        with torch.inference_mode():
            expected = network.double()(x).numpy()
        (found,) = run(model, x.numpy())
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()


def simplified(network: nn.Module, *shape: int) -> tuple[onnx.ModelProto, Simplification]:
    """The simplified graph of a network, which computes what the network does."""
    model, what = simplify(traced(network, *shape))
    assert_as_pytorch(model, network, *shape)
    return model, what


class Fixed(nn.Module):
    """Something affine that is no layer."""

    def __init__(self, name: str, channels: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.name = name
        self.factor, self.all = nn.Parameter(torch.randn(channels, 1, 1)), nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        known: dict[str, Callable[[], Tensor]] = {
            "crop": lambda: x[:, :, 1:, :-1],
            "channels": lambda: x[:, 1:] if x.shape[1] > 1 else x,
            "scale": lambda: x * self.factor,
            "shift": lambda: x - self.factor,
            "scale all": lambda: self.all * x,
            "shift all": lambda: self.all + x,
            "turn": lambda: x.transpose(2, 3),
            "negate": lambda: -x,
            "divide": lambda: x / 255.0,
            "residual": lambda: x + x * self.factor,
        }
        return known[self.name]()


def norm(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels, eps=0.02)
    for values in (layer.running_mean, layer.weight, layer.bias):
        nn.init.normal_(values)  # type: ignore[arg-type]
    nn.init.uniform_(layer.running_var, 0.3, 2)  # type: ignore[arg-type]
    return layer


def graph_of(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], x: list[Any], y: list[Any] | None, kind: int = 1
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    values = [helper.make_tensor_value_info(name, kind, shape) for name, shape in (("x", x), ("y", y))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)
