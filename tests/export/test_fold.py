"""Folding against PyTorch in float64, and against structures that are known by hand."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from vae_gen.images import ImageShape
from vae_gen_export.fold import fold_affine
from vae_gen_export.graphs import trace as trace_network
from vae_gen_train.nets import VAE, SameConv2d, SameConvTranspose2d, build


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
        x = torch.rand(batch, *shape, dtype=torch.float64)
        with torch.inference_mode():
            expected = network.double()(x).numpy()
        (found,) = run(model, x.numpy())
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 2e-6 * max(1.0, np.abs(expected).max())


@pytest.fixture(scope="module")
def notebook() -> VAE:
    vae = build("notebook", (1, 28, 28), 8)
    for layer in vae.modules():  # biases begin at zero, which would hide a lost one
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.bias, std=0.1)
    return vae


def test_the_notebooks_graphs_become_a_few_dense_layers(notebook: VAE) -> None:
    encoder, decoder = trace(notebook, (1, 28, 28), 8)
    folded, folds = fold_affine(decoder)
    assert operations(folded) == ["Gemm", "LeakyRelu", "Gemm", "LeakyRelu", "Gemm", "Sigmoid", "Reshape"]
    assert folded.ByteSize() < 170_000
    assert decoder.ByteSize() > 39_000_000
    (fold,) = folds
    convolutions = 49 * 16 * 64 + 2 * (14 * 14 * 64 * 64 * 16)
    assert fold.multiply_adds_before == convolutions + 12544 * 784 == 35_574_784
    assert fold.multiply_adds_after == 49 * 784
    assert_as_pytorch(folded, notebook.decoder, 8)

    folded, folds = fold_affine(encoder)
    assert operations(folded) == ["Flatten", "Gemm", "Split"]
    assert [output.name for output in folded.graph.output] == ["mean", "log_var"]
    (fold,) = folds
    assert fold.multiply_adds_before == 14 * 14 * 64 * 16 + 2 * (7 * 7 * 64 * 64 * 16) + 2 * 3136 * 8
    assert fold.multiply_adds_after == 784 * 16
    image = torch.rand(3, 1, 28, 28, dtype=torch.float64)
    with torch.inference_mode():
        expected = notebook.double().encoder(image)
    for found, values in zip(run(folded, image.numpy()), expected, strict=True):
        assert np.abs(found - values.numpy()).max() <= 1e-5 * values.abs().max()


def test_before_the_sigmoid_the_folded_decoder_keeps_five_digits(notebook: VAE) -> None:
    _, decoder = trace(notebook.float(), (1, 28, 28), 8)
    folded, _ = fold_affine(decoder)
    sigmoid = next(node for node in folded.graph.node if node.op_type == "Sigmoid")
    folded.graph.output.append(helper.make_tensor_value_info(sigmoid.input[0], TensorProto.FLOAT, ["batch", 784]))
    z = torch.randn(50, 8, dtype=torch.float64)
    with torch.inference_mode():
        expected = notebook.double().decoder[:-2](z).numpy()
    _, found = run(folded, z.numpy())
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_nothing_is_folded_across_activations() -> None:
    encoder, decoder = trace(build("notebook-relu", (1, 28, 28), 8), (1, 28, 28), 8)
    for graph in (encoder, decoder):
        folded, folds = fold_affine(graph)
        assert folds == []
        assert folded == graph


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
    network = Branches()
    model = traced(network, 2, 5, 4)
    folded, (fold,) = fold_affine(model)
    assert_as_pytorch(folded, network, 2, 5, 4)
    assert fold.outputs == ("conv2d", "linear")
    assert fold.multiply_adds_before == 20 * 6 * 2 * 9 + 20 * 6 * 6 * 9 + 120 * 3
    assert fold.multiply_adds_after == 40 * (120 + 3)
    network = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Conv2d(6, 6, 3), nn.Flatten(), nn.Linear(24, 3))
    folded, _ = fold_affine(traced(network, 2, 6, 6))
    assert operations(folded) == ["Flatten", "Gemm"]


def random_chain(seed: int) -> tuple[nn.Sequential, tuple[int, ...]]:
    """Layers of random kinds, sizes, strides and paddings, ending in a small dense layer, and their input."""
    random = np.random.default_rng(seed)
    channels, height, width = (int(size) for size in random.integers((1, 6, 6), (4, 9, 9)))
    shape = (channels, height, width)
    network = nn.Sequential()
    example = torch.zeros(1, *shape)
    for _ in range(random.integers(1, 4)):
        outputs, kernel, stride = (int(size) for size in random.integers((2, 1, 1), (6, 5, 3)))
        padding = int(random.integers(0, (kernel + 1) // 2))
        inputs = example.shape[1]
        kinds = [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2),
            nn.Conv2d(inputs, outputs, 2, 1, dilation=2, padding=1),
            nn.ConvTranspose2d(inputs, outputs, kernel + 1, stride, padding),
            nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1),
            SameConv2d(inputs, outputs, 4, 1),
            SameConvTranspose2d(inputs, outputs, 4, 1 + stride % 2),
            nn.Conv2d(inputs, 2 * inputs, 3, 1, 1, groups=inputs),
        ]
        layer = kinds[random.integers(len(kinds))]
        network.append(layer)
        example = layer(example)
    network.append(nn.Flatten())
    network.append(nn.Linear(example.numel(), 4))
    return network, shape


@pytest.mark.parametrize("seed", range(12))
def test_random_chains_fold_into_one_dense_layer(seed: int) -> None:
    torch.manual_seed(seed)
    network, shape = random_chain(seed)
    model = traced(network, *shape)
    folded, folds = fold_affine(model)
    assert_as_pytorch(folded, network, *shape)
    assert len(folds) == 1
    assert operations(folded) == ["Flatten", "Gemm"]
    assert folds[0].multiply_adds_after == 4 * int(np.prod(shape))


def test_a_dense_layer_that_would_cost_more_is_not_made() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1))
    model = traced(network, 1, 9, 7)
    folded, folds = fold_affine(model)
    assert folds == []
    assert folded == model


def test_new_names_do_not_collide_with_old_ones() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(2, 6, 3)
            self.y = nn.Linear(6 * 4 * 4, 3)  # its parameters are y.weight and y.bias, and so are the output's

        def forward(self, x: Tensor) -> Tensor:
            return self.y(self.first(x).flatten(1))

    network = Named()
    folded, folds = fold_affine(traced(network, 2, 6, 6))
    assert len(folds) == 1
    assert_as_pytorch(folded, network, 2, 6, 6)


def test_a_graph_that_holds_others_is_left_alone() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["wide"], ["out"])], "b", [], [helper.make_tensor_value_info("out", 1, None)]
    )
    constants = [
        numpy_helper.from_array(np.ones((4, 50), np.float32), "up"),
        numpy_helper.from_array(np.ones((50, 2), np.float32), "down"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["wide"]),
        helper.make_node("MatMul", ["wide", "down"], ["y"]),
        helper.make_node("If", ["yes"], ["again"], then_branch=branch, else_branch=branch),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2]),
        helper.make_tensor_value_info("again", TensorProto.FLOAT, ["batch", 50]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    folded, folds = fold_affine(model)
    assert folds == []
    assert folded == model


def test_a_reshape_across_the_batch_is_left_alone() -> None:
    # Rows 2i and 2i + 1 become one row: no affine map of a row, though every operation is affine.
    constants = [
        numpy_helper.from_array(np.array([-1, 8], np.int64), "shape"),
        numpy_helper.from_array(np.random.default_rng(0).standard_normal((8, 50)).astype(np.float32), "up"),
        numpy_helper.from_array(np.random.default_rng(1).standard_normal((50, 8)).astype(np.float32), "down"),
    ]
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["pairs"]),
        helper.make_node("MatMul", ["pairs", "up"], ["wide"]),
        helper.make_node("MatMul", ["wide", "down"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["half", 8])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    x = np.random.default_rng(2).standard_normal((6, 4))
    folded, _ = fold_affine(model)
    np.testing.assert_allclose(run(folded, x)[0], run(model, x)[0], rtol=1e-5, atol=1e-5)
