"""Simplification against PyTorch in float64, and against structures and costs that are known by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from vae_gen.images import ImageShape
from vae_gen_export.graphs import trace as trace_network
from vae_gen_export.simplify import Simplification, forms, simplify
from vae_gen_export.simplify.costs import total_multiply_adds
from vae_gen_export.simplify.evaluation import Subgraph
from vae_gen_export.simplify.view import View
from vae_gen_train.nets import VAE, SameConvTranspose2d, build


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


def trace(vae: VAE, image_shape: ImageShape, latent_dim: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    vae.eval()
    encoder = trace_network(vae.encoder, torch.rand(2, *image_shape), "image", ["mean", "log_var"])
    return encoder, trace_network(vae.decoder, torch.randn(2, latent_dim), "z", ["image"])


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


@pytest.fixture(scope="module")
def notebook() -> VAE:
    vae = build("notebook", (1, 28, 28), 8)
    for layer in vae.modules():  # biases begin at zero, which would hide a lost one
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.bias, std=0.1)
    return vae


# The notebook


def test_the_notebooks_graphs_become_a_few_dense_layers(notebook: VAE) -> None:
    encoder, decoder = trace(notebook, (1, 28, 28), 8)
    model, what = simplify(decoder)
    assert operations(model) == ["Gemm", "LeakyRelu", "Gemm", "LeakyRelu", "Gemm", "Sigmoid", "Reshape"]
    assert model.ByteSize() < 170_000
    assert decoder.ByteSize() > 39_000_000
    (rewrite,) = what.rewrites
    convolutions = 49 * 16 * 64 + 2 * (14 * 14 * 64 * 64 * 16)
    assert rewrite.multiply_adds_before == convolutions + 12544 * 784 == 35_574_784
    assert rewrite.multiply_adds_after == 49 * 784
    assert what.multiply_adds_after == 8 * 24 + 24 * 49 + 49 * 784
    assert_as_pytorch(model, notebook.decoder, 8)

    model, what = simplify(encoder)
    assert operations(model) == ["Flatten", "Gemm", "Split"]
    assert [output.name for output in model.graph.output] == ["mean", "log_var"]
    assert what.multiply_adds_before == 14 * 14 * 64 * 16 + 2 * (7 * 7 * 64 * 64 * 16) + 2 * 3136 * 8
    assert what.multiply_adds_after == 784 * 16
    image = torch.rand(3, 1, 28, 28, dtype=torch.float64)
    with torch.inference_mode():
        expected = notebook.double().encoder(image)
    for found, values in zip(run(model, image.numpy()), expected, strict=True):
        assert np.abs(found - values.numpy()).max() <= 1e-5 * values.abs().max()


def test_before_the_sigmoid_the_simplified_decoder_keeps_five_digits(notebook: VAE) -> None:
    _, decoder = trace(notebook.float(), (1, 28, 28), 8)
    model, _ = simplify(decoder)
    sigmoid = next(node for node in model.graph.node if node.op_type == "Sigmoid")
    model.graph.output.append(helper.make_tensor_value_info(sigmoid.input[0], TensorProto.FLOAT, ["batch", 784]))
    z = torch.randn(50, 8, dtype=torch.float64)
    with torch.inference_mode():
        expected = notebook.double().decoder[:-2](z).numpy()
    _, found = run(model, z.numpy())
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_nothing_is_folded_across_activations() -> None:
    inputs = {"image": (2, 1, 28, 28), "z": (2, 8)}
    for graph in trace(build("notebook-relu", (1, 28, 28), 8), (1, 28, 28), 8):
        model, what = simplify(graph)
        assert not what.rewrites
        assert not what.removals
        assert operations(model) == operations(graph)
        x = np.random.default_rng(0).random(inputs[graph.graph.input[0].name])
        for found, expected in zip(run(model, x), run(graph, x), strict=True):
            np.testing.assert_array_equal(found, expected)


# The cost model


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Sequential(nn.Conv2d(3, 5, (3, 2), (2, 1), (1, 0)), nn.ReLU(), nn.Conv2d(5, 2, 3, dilation=2)), (3, 11, 9)),
        (nn.Conv2d(4, 6, 3, groups=2), (4, 7, 6)),
        (nn.ConvTranspose2d(3, 4, 3, 2, 1, output_padding=1), (3, 5, 4)),
        (nn.Sequential(nn.Flatten(), nn.Linear(24, 7), nn.Tanh(), nn.Linear(7, 3, bias=False)), (2, 3, 4)),
    ],
    ids=["convolutions", "groups", "transposed", "dense"],
)
def test_multiply_adds_are_half_of_what_pytorch_counts(network: nn.Module, shape: tuple[int, ...]) -> None:
    counter = FlopCounterMode(display=False)
    with counter:
        network(torch.rand(1, *shape))
    assert 2 * total_multiply_adds(View(traced(network, *shape))) == counter.get_total_flops()


def test_what_works_on_each_value_costs_its_operations() -> None:
    class Pointwise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(2 * x) * 3 + 1

    norm = nn.Sequential(nn.Tanh(), nn.BatchNorm2d(2), nn.Tanh())
    assert total_multiply_adds(View(traced(Pointwise(), 2, 3, 4))) == 3 * 24
    assert total_multiply_adds(View(traced(norm, 2, 3, 4))) == 3 * 24
    assert total_multiply_adds(View(traced(nn.AvgPool2d((2, 3)), 2, 4, 6))) == 2 * 2 * 2 * 6


# Random chains


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


FIXED = ["crop", "channels", "scale", "shift", "scale all", "shift all", "turn", "negate", "divide", "residual"]


def norm(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels)
    for values in (layer.running_mean, layer.weight, layer.bias):
        nn.init.normal_(values)  # type: ignore[arg-type]
    nn.init.uniform_(layer.running_var, 0.3, 2)  # type: ignore[arg-type]
    return layer


def random_layer(random: np.random.Generator, channels: int, shape: tuple[int, ...]) -> nn.Module:
    outputs, kernel, stride, padding = (int(each) for each in random.integers((2, 1, 1, 0), (6, 4, 3, 2)))
    layers: list[Callable[[], nn.Module]] = [
        lambda: nn.Conv2d(channels, outputs, kernel, stride, padding),
        lambda: nn.Conv2d(channels, outputs, 1, bias=False),
        lambda: nn.Conv2d(channels, outputs, 2, dilation=2, padding=1),
        lambda: nn.Conv2d(channels, 2 * channels, 3, 1, 1, groups=channels),
        lambda: nn.ConvTranspose2d(channels, outputs, kernel + 1, stride, min(padding, kernel)),
        lambda: nn.ConvTranspose2d(channels, outputs, 3, 2, 1, output_padding=1),
        lambda: SameConvTranspose2d(channels, outputs, 4, 1 + stride % 2),
        lambda: norm(channels),
        lambda: nn.AvgPool2d(2, stride),
        lambda: nn.ZeroPad2d((1, 0, 2, 1)),
        lambda: nn.Upsample(scale_factor=2),
        nn.Dropout,
        lambda: Fixed(FIXED[random.integers(len(FIXED))], channels, shape),
        lambda: Fixed(FIXED[random.integers(len(FIXED))], channels, shape),
        lambda: (nn.ReLU(), nn.Tanh(), nn.LeakyReLU(0.3))[random.integers(3)],
    ]
    return layers[random.integers(len(layers))]()


def random_network(seed: int) -> tuple[nn.Sequential, tuple[int, ...]]:
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    shape = tuple(int(size) for size in random.integers((1, 6, 5), (4, 10, 9)))
    network, example = nn.Sequential(), torch.zeros(1, *shape)
    while len(network) < 2 + seed % 4:
        layer = random_layer(random, example.shape[1], tuple(example.shape[1:])).eval()
        made = layer(example)
        if made.numel() <= 3000 and min(made.shape[2:]) >= 4:
            network.append(layer)
            example = made
    if seed % 3:
        network.extend([nn.Flatten(), nn.Linear(example.numel(), 2 + seed % 7), nn.Tanh(), nn.Linear(2 + seed % 7, 5)])
    return network, shape


@pytest.mark.parametrize("seed", range(24))
def test_random_chains_compute_the_same_at_no_greater_cost(seed: int) -> None:
    network, shape = random_network(seed)
    model, what = simplified(network, *shape)
    assert what.multiply_adds_after <= what.multiply_adds_before
    assert what.multiply_adds_after == total_multiply_adds(View(model))
    assert what.multiply_adds_before - what.multiply_adds_after == sum(
        each.multiply_adds_before - each.multiply_adds_after for each in what.rewrites
    )
    assert "BatchNormalization" not in operations(model)
    assert "Dropout" not in operations(model)


# What becomes of chains that are known


def test_a_shorter_chain_is_found_where_one_layer_would_cost_more() -> None:
    # 100 -> 50 -> 3 -> 60 -> 80: one dense layer would cost 8,000; the way through the 3 costs 540.
    network = nn.Sequential(*(nn.Linear(a, b) for a, b in ((100, 50), (50, 3), (3, 60), (60, 80))))
    model, what = simplified(network, 100)
    assert operations(model) == ["Gemm", "Gemm"]
    assert what.multiply_adds_after == 100 * 3 + 3 * 80
    assert [each.before for each in what.rewrites] == [("Gemm", "Gemm"), ("Gemm", "Gemm")]


@pytest.mark.parametrize(
    ("layers", "expected", "cost"),
    [
        ([nn.Conv2d(3, 5, 3, 2, 1), norm(5)], ["Conv"], 20 * 5 * 3 * 9),
        ([norm(3), nn.Conv2d(3, 5, 3)], ["Conv"], 48 * 5 * 3 * 9),
        ([norm(3), nn.Conv2d(3, 5, 3, padding=1)], ["Conv", "Add"], 80 * 5 * 3 * 9 + 80 * 5),
        ([nn.Conv2d(3, 32, 1), nn.Conv2d(32, 4, 3)], ["Conv"], 48 * 4 * 3 * 9),
        ([nn.Conv2d(3, 32, 1, bias=False), nn.Conv2d(32, 4, 3, padding=1)], ["Conv"], 80 * 4 * 3 * 9),
        # one 5x5 convolution would be cheaper, but at the border the padding in between shows
        ([nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)], ["Conv", "Conv"], 80 * 8 * 5 * 9),
        ([nn.Conv2d(3, 6, 3, groups=3), norm(6)], ["Conv"], 48 * 6 * 9),
        ([nn.Conv2d(3, 6, 3, dilation=2), norm(6)], ["Conv"], 24 * 6 * 3 * 9),
        ([nn.Conv2d(3, 4, 1), nn.AvgPool2d(2)], ["Conv"], 20 * 4 * 3 * 4),
        ([nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(3, 4, 3)], ["Conv"], 7 * 11 * 4 * 3 * 9),
        ([nn.ConvTranspose2d(3, 4, 4, 2, 1), norm(4)], ["ConvTranspose"], 80 * 3 * 4 * 16),
        ([nn.ConvTranspose2d(3, 4, 3, 2, 1, 1), Fixed("scale", 4, ())], ["ConvTranspose"], 80 * 3 * 4 * 9),
        ([norm(3), nn.ConvTranspose2d(3, 1, 3, 2)], ["ConvTranspose", "Add"], 80 * 3 * 9 + 17 * 21),
        ([norm(3), nn.ConvTranspose2d(3, 4, 3, 2)], ["Mul", "Add", "ConvTranspose"], 2 * 240 + 80 * 3 * 4 * 9),
        ([SameConvTranspose2d(3, 4, 4, 2), norm(4)], ["ConvTranspose"], 80 * 3 * 4 * 16),
        ([nn.Tanh(), norm(3), nn.Tanh()], ["Tanh", "Mul", "Add", "Tanh"], 2 * 240),
        ([Fixed("negate", 3, ()), Fixed("divide", 3, ()), nn.Tanh()], ["Mul", "Tanh"], 240),
        ([Fixed("turn", 3, ()), nn.Dropout(), Fixed("turn", 3, ()), nn.Tanh()], ["Tanh"], 0),
        ([nn.Conv2d(3, 5, 3), Fixed("channels", 5, ())], ["Conv"], 48 * 4 * 3 * 9),
    ],
)  # fmt: skip
def test_chains_over_images_take_one_layer(layers: list[nn.Module], expected: list[str], cost: int) -> None:
    torch.manual_seed(0)
    model, what = simplified(nn.Sequential(*layers).float(), 3, 8, 10)
    assert operations(model) == expected
    assert what.multiply_adds_after == cost
    given = {name for node in model.graph.node for name in (attribute.name for attribute in node.attribute)}
    assert not given & {"output_padding", "auto_pad", "output_shape"}


def test_a_small_step_before_or_after_goes_into_its_neighbour() -> None:
    class Whitened(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean, self.std = nn.Parameter(torch.randn(6)), nn.Parameter(torch.rand(6) + 0.5)
            self.turn, self.dense = nn.Parameter(torch.randn(6, 6)), nn.Linear(6, 9)

        def forward(self, x: Tensor) -> Tensor:
            values = (x - self.mean) / self.std @ self.turn
            first, second = self.dense(values)[:, :4], values[:, 3:]
            return torch.cat([torch.tanh(first) * 0.5, torch.relu(second)], 1)

    model, what = simplified(Whitened(), 6)
    assert sorted(operations(model)) == sorted(["Gemm", "Split", "Tanh", "Mul", "Relu", "Concat"])
    assert what.multiply_adds_after == 6 * (4 + 3) + 4


class Branches(nn.Module):
    """Two affine paths that meet again, and one tensor that is also used behind an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6 * 5 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        return self.head((first + self.second(first)).flatten(1)) + torch.relu(first).mean((2, 3))[:, :3]


def test_branches_that_meet_are_one_map_and_what_others_need_remains() -> None:
    model, what = simplified(Branches(), 2, 5, 4)
    # The first convolution costs 2,160 and is needed; all after it is one dense layer from what it makes.
    assert what.rewrites[0].before == ("Conv", "Add", "Reshape", "Gemm")
    assert what.rewrites[0].multiply_adds_before == 20 * 6 * 6 * 9 + 120 + 120 * 3
    assert what.rewrites[0].multiply_adds_after == 120 * 3
    assert operations(model).count("Conv") == 1


def test_each_of_several_heads_is_simplified() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Linear(40, 100), nn.Linear(100, 2))
            self.second = nn.Sequential(nn.Linear(40, 90), nn.Linear(90, 3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.first(x)).sum(1, keepdim=True) * torch.relu(self.second(x))

    _, what = simplified(Heads(), 40)
    assert what.rewrites[0].multiply_adds_after == 40 * (2 + 3)


def test_new_names_do_not_collide_with_old_ones() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(2, 6, 3)
            self.y = nn.Linear(6 * 4 * 4, 3)  # its parameters are y.weight and y.bias, and so are the output's

        def forward(self, x: Tensor) -> Tensor:
            return self.y(self.first(x).flatten(1))

    _, what = simplified(Named(), 2, 6, 6)
    assert len(what.rewrites) == 1


# Channels


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


# Graphs that are not PyTorch's


def graph_of(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], x: list[Any], y: list[Any], kind: int = 1
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    values = [helper.make_tensor_value_info(name, kind, shape) for name, shape in (("x", x), ("y", y))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def test_what_is_there_twice_or_for_nobody_goes() -> None:
    nodes = [
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32([2]))),
        helper.make_node("Mul", ["half", "two"], ["one"]),
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("Relu", ["x"], ["positive again"]),
        helper.make_node("Tanh", ["x"], ["nobody's"]),
        helper.make_node("Mul", ["positive", "first"], ["left"]),
        helper.make_node("Mul", ["positive again", "second"], ["right"]),
        helper.make_node("Identity", ["right"], ["same"]),
        helper.make_node("Add", ["left", "same"], ["sum"]),
        helper.make_node("Mul", ["sum", "one"], ["y"]),
    ]
    twice = normal(4)
    constants = {"half": np.float32([0.5]), "first": twice, "second": twice, "unused": normal(1000)}
    model = graph_of(nodes, constants, ["batch", 4], ["batch", 4])
    small, _ = simplify(model)
    assert operations(small) == ["Relu", "Mul"]
    assert len(small.graph.initializer) == 1
    x = normal(3, 4)
    np.testing.assert_allclose(run(small, x)[0], np.maximum(x, 0) * twice * 2, rtol=1e-6)


def test_a_fixed_batch_is_kept() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "up"], ["wide"]),
        helper.make_node("Add", ["wide", "bias"], ["shifted"]),
        helper.make_node("MatMul", ["shifted", "down"], ["y"]),
    ]
    constants = {"flat": np.array([2, 12]), "up": normal(12, 50), "bias": normal(50), "down": normal(50, 5)}
    model = graph_of(nodes, constants, [2, 3, 4], [2, 5])
    small, what = simplify(model)
    assert operations(small) == ["Flatten", "Gemm"]
    assert what.multiply_adds_after == 12 * 5
    x = normal(2, 3, 4)
    expected = (x.reshape(2, 12).astype(np.float64) @ constants["up"] + constants["bias"]) @ constants["down"]
    np.testing.assert_allclose(run(small, x)[0], expected, rtol=1e-5, atol=1e-5)


def test_a_reshape_across_the_batch_is_left_alone() -> None:
    # Rows 2i and 2i + 1 become one row: no affine map of a row, though every operation is affine.
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["pairs"]),
        helper.make_node("MatMul", ["pairs", "up"], ["wide"]),
        helper.make_node("MatMul", ["wide", "down"], ["y"]),
    ]
    constants = {"shape": np.array([-1, 8], np.int64), "up": normal(8, 50), "down": normal(50, 8)}
    model = graph_of(nodes, constants, ["batch", 4], ["half", 8])
    x = normal(6, 4)
    small, _ = simplify(model)
    np.testing.assert_allclose(run(small, x)[0], run(model, x)[0], rtol=1e-5, atol=1e-4)


def test_a_graph_that_holds_others_is_left_alone() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["wide"], ["out"])], "b", [], [helper.make_tensor_value_info("out", 1, None)]
    )
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["wide"]),
        helper.make_node("MatMul", ["wide", "down"], ["narrow"]),
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "zero"], ["yes"]),
        helper.make_node("If", ["yes"], ["again"], then_branch=branch, else_branch=branch),
        helper.make_node("Concat", ["narrow", "again"], ["y"], axis=1),
    ]
    constants = {"up": normal(4, 50), "down": normal(50, 2), "zero": np.float32(0)}
    model = graph_of(nodes, constants, ["batch", 4], ["batch", 52])
    small, what = simplify(model)
    assert not what.rewrites
    assert operations(small) == operations(model)


def test_other_precisions_are_left_alone() -> None:
    nodes = [helper.make_node("MatMul", ["x", "up"], ["wide"]), helper.make_node("MatMul", ["wide", "down"], ["y"])]
    constants = {"up": normal(4, 50).astype(np.float64), "down": normal(50, 2).astype(np.float64)}
    model = graph_of(nodes, constants, ["batch", 4], ["batch", 2], TensorProto.DOUBLE)
    small, what = simplify(model)
    assert not what.rewrites
    assert operations(small) == ["MatMul", "MatMul"]


@pytest.mark.parametrize("opset", [9, 11, 13, 18])
def test_every_opset_is_written_as_it_is(opset: int) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["maps", "gamma", "beta", "mean", "variance"], ["normal"]),
        helper.make_node("Relu", ["normal"], ["positive"]),
        helper.make_node("Flatten", ["positive"], ["flat"]),
        helper.make_node("MatMul", ["flat", "up"], ["wide"]),
        helper.make_node("MatMul", ["wide", "one"], ["first"]),
        helper.make_node("MatMul", ["wide", "two"], ["second"]),
        helper.make_node("Tanh", ["first"], ["bent"]),
        helper.make_node("Relu", ["second"], ["cut"]),
        helper.make_node("Concat", ["bent", "cut"], ["y"], axis=1),
    ]
    names = ("gamma", "beta", "mean", "variance")
    constants = {name: np.abs(normal(3 + number)[:3]) + 0.5 for number, name in enumerate(names)}
    constants |= {"kernel": normal(3, 2, 3, 3), "up": normal(60, 90), "one": normal(90, 2), "two": normal(90, 3)}
    model = graph_of(nodes, constants, ["batch", 2, 5, 4], ["batch", 5])
    model.opset_import[0].version = opset
    small, what = simplify(model)
    assert operations(small) == ["Conv", "Relu", "Flatten", "Gemm", "Split", "Tanh", "Relu", "Concat"]
    assert what.multiply_adds_after == 20 * 3 * 2 * 9 + 60 * 5
    x = normal(4, 2, 5, 4)
    expected = run(model, x)[0]
    np.testing.assert_allclose(run(small, x)[0], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_a_part_that_makes_more_rows_than_it_takes_cannot_be_run() -> None:
    nodes = [helper.make_node("Reshape", ["x", "pairs"], ["y"])]
    opsets = [helper.make_opsetid("", 18)]
    part = Subgraph(nodes, {"pairs": np.array([-1, 2])}, "x", ["y"], opsets, None)
    with pytest.raises(ValueError, match="mixed"):
        part(np.zeros((3, 4)))


FIVE = np.arange(5, dtype=np.float32)
UNFIT: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray], list[Any], list[Any]]] = {
    "the first rows": (
        [
            helper.make_node("Slice", ["x", "begin", "end", "axis"], ["few"]),
            helper.make_node("Gemm", ["few", "up"], ["wide"]),
            helper.make_node("Gemm", ["wide", "down"], ["y"]),
        ],
        {
            "begin": np.array([0]),
            "end": np.array([10]),
            "axis": np.array([0]),
            "up": normal(4, 50),
            "down": normal(50, 3),
        },
        ["batch", 4],
        ["few", 3],
    ),
    "rows padded": (
        [
            helper.make_node("Pad", ["x", "pads"], ["more"]),
            helper.make_node("MatMul", ["more", "up"], ["wide"]),
            helper.make_node("MatMul", ["wide", "down"], ["y"]),
        ],
        {"pads": np.array([0, 0, 1, 0]), "up": normal(4, 50), "down": normal(50, 3)},
        ["batch", 4],
        ["more", 3],
    ),
    "rows split between layers": (
        [
            helper.make_node("Gemm", ["x", "up"], ["wide"]),
            helper.make_node("Relu", ["wide"], ["positive"]),
            helper.make_node("Reshape", ["positive", "pairs"], ["rows"]),
            helper.make_node("Gemm", ["rows", "down"], ["y"]),
        ],
        {"up": normal(4, 6), "pairs": np.array([-1, 3]), "down": normal(3, 3)},
        ["batch", 4],
        ["rows", 3],
    ),
    "a constant for each row": (
        [helper.make_node("Add", ["x", "each"], ["shifted"]), helper.make_node("MatMul", ["shifted", "down"], ["y"])],
        {"each": normal(8, 4), "down": normal(4, 3)},
        [8, 4],
        [8, 3],
    ),
    "a bias for each row": (
        [
            helper.make_node("Gemm", ["x", "up", "bias"], ["wide"]),
            helper.make_node("Relu", ["wide"], ["positive"]),
            helper.make_node("Gemm", ["positive", "down"], ["y"]),
        ],
        {"up": normal(4, 6) * np.float32([1, 1, 0, 1, 1, 1]), "bias": normal(8, 6), "down": normal(6, 3)},
        [8, 4],
        [8, 3],
    ),
    "rows and columns changed about": (
        [
            helper.make_node("Transpose", ["x"], ["turned"]),
            helper.make_node("Mul", ["turned", "each"], ["scaled"]),
            helper.make_node("Mul", ["scaled", "each"], ["again"]),
            helper.make_node("Transpose", ["again"], ["y"]),
        ],
        {"each": FIVE + 1},
        [5, 5],
        [5, 5],
    ),
    "no columns": (
        [helper.make_node("Gemm", ["x", "up"], ["none"]), helper.make_node("Gemm", ["none", "down", "bias"], ["y"])],
        {"up": normal(4, 0), "down": normal(0, 3), "bias": normal(3)},
        ["batch", 4],
        ["batch", 3],
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_mixes_or_tells_rows_apart_is_left_alone(name: str) -> None:
    nodes, constants, x_shape, y_shape = UNFIT[name]
    model = graph_of(nodes, constants, x_shape, y_shape)
    small, _ = simplify(model)
    for batch in (16, 70) if x_shape[0] == "batch" else (x_shape[0],):
        x = normal(batch, *x_shape[1:])
        expected = run(model, x)[0]
        np.testing.assert_allclose(run(small, x)[0], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_outputs_that_are_the_same_keep_their_names() -> None:
    nodes = [helper.make_node("MatMul", ["x", "down"], [name]) for name in ("y", "again")]
    model = graph_of(nodes, {"down": normal(4, 3)}, ["batch", 4], ["batch", 3])
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, ["batch", 3]))
    small, _ = simplify(model)
    assert [value.name for value in small.graph.output] == ["y", "again"]
    x = normal(5, 4)
    for found, expected in zip(run(small, x), run(model, x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_dense_layer_that_nobody_could_find_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(8 * 4 * 4, 2))
    assert operations(simplify(traced(network, 1, 6, 6))[0]) == ["Flatten", "Gemm"]
    # 36 inputs, each through 16 * 8 * 9 + 128 * 2 = 1,408 multiply-adds; 72 weights
    for limit, value in (("MOST_WORK", 36 * 1408 - 1), ("MOST_WEIGHTS", 71)):
        with monkeypatch.context() as patch:
            patch.setattr(forms, limit, value)
            assert operations(simplify(traced(network, 1, 6, 6))[0]) == ["Conv", "Reshape", "Gemm"]


def test_sparse_tensors_are_left_alone() -> None:
    values = numpy_helper.from_array(np.float32([2, 3]), "down")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([0, 4]), "places"), [4, 2])
    model = graph_of([helper.make_node("MatMul", ["x", "down"], ["y"])], {}, ["batch", 4], ["batch", 2])
    model.graph.sparse_initializer.append(sparse)
    small, what = simplify(model)
    assert small == model
    assert not what.rewrites
