"""Channels that make no difference are taken out, and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from onnx.reference import ReferenceEvaluator
from torch import nn
from vae_gen_export.simplify import simplify
from vae_gen_export.simplify.view import View

from tests.export.simplification import graph_of, normal, run, simplified


def assert_narrow(network: nn.Sequential, shape: tuple[int, ...], removed: int, remaining: int) -> onnx.ModelProto:
    model, what = simplified(network, *shape)
    assert [(each.removed, each.remaining) for each in what.removals] == [(removed, remaining)]
    return model


@pytest.mark.parametrize(
    ("first", "between", "second", "shape"),
    [
        (nn.Linear(5, 8), [nn.Tanh()], nn.Linear(8, 3), (5,)),
        (nn.Linear(5, 8), [nn.Tanh()], nn.Linear(8, 3, bias=False), (5,)),
        (nn.Conv2d(2, 8, 3), [nn.Sigmoid(), nn.LeakyReLU(0.2)], nn.Conv2d(8, 3, 2), (2, 6, 5)),
        (nn.ConvTranspose2d(2, 8, 3), [nn.ReLU(), nn.Flatten()], nn.Linear(8 * 8 * 7, 3), (2, 6, 5)),
    ],
    ids=["dense", "no bias", "convolutions", "flattened"],
)
def test_channels_that_make_no_difference_go(
    first: Any, between: list[nn.Module], second: Any, shape: tuple[int, ...]
) -> None:
    """One channel that the second layer does not weigh, and one that is constant."""
    torch.manual_seed(0)
    turned = isinstance(first, nn.ConvTranspose2d)
    with torch.no_grad():
        first.bias.copy_(torch.linspace(0.5, 2, 8))
        (first.weight.transpose(0, 1) if turned else first.weight)[2] = 0
        places = second.weight.shape[1] // 8
        second.weight[:, 5 * places : 6 * places] = 0
    model = assert_narrow(nn.Sequential(first, *between, second), shape, 2, 6)
    sizes = {name: tensor.shape for name, tensor in View(model).constants.items() if tensor.ndim > 1}
    assert all(8 not in size for size in sizes.values())


@pytest.mark.parametrize(("bias", "removed"), [(0.7, 0), (-0.7, 1)], ids=["seen", "zero behind the ReLU"])
def test_a_constant_channel_stays_where_padding_would_show(bias: float, removed: int) -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    first: Any = network[0]
    with torch.no_grad():
        first.weight[1] = 0
        first.bias[1] = bias
    _, what = simplified(network, 2, 6, 5)
    assert sum(each.removed for each in what.removals) == removed


def test_one_channel_remains_where_none_makes_a_difference() -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    nn.init.zeros_(network[2].weight)  # type: ignore[arg-type]
    assert_narrow(network, (4,), 4, 1)


def node(operation: str, *inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operation, inputs, [output], **attributes)


def gapped(*shape: int, axis: int = 0) -> np.ndarray:
    """Weights whose channel 1, along `axis`, is always zero."""
    values = normal(*shape)
    np.moveaxis(values, axis, 0)[1] = 0
    return values


DENSE = {"first": gapped(5, 4, axis=1), "bias": normal(4), "second": normal(4, 3)}
MAPS = {"first": gapped(4, 2, 2, 2), "bias": normal(4), "second": normal(3, 4, 2, 2)}
CONVOLVED = node("Conv", "x", "first", "bias", output="h")
AROUND: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray], tuple[int, ...], int]] = {
    "dense": (
        [
            node("Gemm", "x", "first", "bias", output="h"),
            node("Sigmoid", "h", output="a"),
            node("Gemm", "a", "second", output="y"),
        ],
        DENSE, (5,), 1,
    ),
    "one number as bias": (
        [
            node("Gemm", "x", "first", "bias", output="h"),
            node("Sigmoid", "h", output="a"),
            node("Gemm", "a", "second", output="y"),
        ],
        DENSE | {"bias": np.float32(0.7)}, (5,), 1,
    ),
    "scaled weights": (
        [
            node("Gemm", "x", "first", "bias", output="h", alpha=0.5, beta=3.0),
            node("Sigmoid", "h", output="a"),
            node("Gemm", "a", "second", output="y"),
        ],
        DENSE, (5,), 0,
    ),
    "scaled weights after": (
        [
            node("Gemm", "x", "first", "bias", output="h"),
            node("Sigmoid", "h", output="a"),
            node("Gemm", "a", "second", output="y", alpha=0.5),
        ],
        DENSE, (5,), 0,
    ),
    "used twice": (
        [
            node("Gemm", "x", "first", "bias", output="h"),
            node("Sigmoid", "h", output="a"),
            node("Gemm", "a", "second", output="s"),
            node("ReduceMax", "a", output="m", axes=[1]),
            node("Mul", "s", "m", output="y"),
        ],
        DENSE, (5,), 0,
    ),
    "a limit that varies": (
        [
            node("Gemm", "x", "first", "bias", output="h"),
            node("ReduceMin", "x", output="m", keepdims=0),
            node("Clip", "h", "m", output="a"),
            node("Gemm", "a", "second", output="y"),
        ],
        DENSE, (5,), 0,
    ),
    "rows of matrices": (
        [
            node("MatMul", "x", "first", output="h"),
            node("Sigmoid", "h", output="a"),
            node("MatMul", "a", "second", output="y"),
        ],
        DENSE, (2, 5), 0,
    ),
    "rows become images": (
        [
            node("Gemm", "x", "first", "bias", output="h"),
            node("Sigmoid", "h", output="a"),
            node("Reshape", "a", "shape", output="r"),
            node("Conv", "r", "kernel", output="y"),
        ],
        DENSE | {"shape": np.array([-1, 2, 2, 1]), "kernel": normal(3, 2, 1, 1)}, (5,), 0,
    ),
    "groups": (
        [
            node("Conv", "x", "grouped", "bias", output="h", group=2),
            node("Sigmoid", "h", output="a"),
            node("Conv", "a", "second", output="y"),
        ],
        MAPS | {"grouped": gapped(4, 1, 2, 2)}, (2, 5, 4), 0,
    ),
    "a border that is not said in numbers": (
        [CONVOLVED, node("Sigmoid", "h", output="a"), node("Conv", "a", "second", output="y", auto_pad="SAME_UPPER")],
        MAPS, (2, 5, 4), 0,
    ),
    "transposed": (
        [CONVOLVED, node("Sigmoid", "h", output="a"), node("ConvTranspose", "a", "back", output="y", strides=[2, 2])],
        MAPS | {"back": normal(4, 3, 3, 2)}, (2, 5, 4), 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", AROUND)
def test_a_constant_channel_goes_only_where_its_layers_are_plain(name: str) -> None:
    nodes, constants, shape, removed = AROUND[name]
    model = graph_of(nodes, constants, ["batch", *shape], None)
    model.opset_import[0].version = 13
    x = normal(3, *shape)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    batch = ["batch", *expected.shape[1:]]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, batch))
    small, what = simplify(model)
    assert sum(each.removed for each in what.removals) == removed
    np.testing.assert_allclose(run(small, x)[0], expected, rtol=1e-4, atol=1e-5)


def test_channels_of_what_the_graph_puts_out_stay() -> None:
    nodes, constants, shape, _ = AROUND["dense"]
    model = graph_of(nodes, constants, ["batch", *shape], ["batch", 3])
    model.graph.output.append(helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, ["batch", 4]))
    small, what = simplify(model)
    assert not what.removals
    x = normal(3, *shape)
    for found, expected in zip(run(small, x), ReferenceEvaluator(model).run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
