"""Simplification of the notebook's graphs: the structure and the costs that are known by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from vae_gen.images import ImageShape
from vae_gen_export.graphs import trace as trace_network
from vae_gen_export.simplify import simplify
from vae_gen_train.nets import VAE, build

from tests.export.simplification import assert_as_pytorch, operations, run


def trace(vae: VAE, image_shape: ImageShape, latent_dim: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    vae.eval()
    encoder = trace_network(vae.encoder, torch.rand(2, *image_shape), "image", ["mean", "log_var"])
    return encoder, trace_network(vae.decoder, torch.randn(2, latent_dim), "z", ["image"])


@pytest.fixture(scope="module")
def notebook() -> VAE:
    vae = build("notebook", (1, 28, 28), 8)
    for layer in vae.modules():  # biases begin at zero, which would hide a lost one
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.bias, std=0.1)
    return vae


def test_the_notebooks_graphs_become_a_few_dense_layers(notebook: VAE) -> None:
    encoder, decoder = trace(notebook, (1, 28, 28), 8)
    model, what = simplify(decoder)
    assert operations(model) == ["Gemm", "LeakyRelu", "Gemm", "LeakyRelu", "Gemm", "Reshape", "Sigmoid"]
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
    model.graph.output.append(helper.make_tensor_value_info(sigmoid.input[0], TensorProto.FLOAT, ["batch", 1, 28, 28]))
    z = torch.randn(50, 8, dtype=torch.float64)
    with torch.inference_mode():
        expected = notebook.double().decoder[:-2](z).numpy()
    _, found = run(model, z.numpy())
    assert np.abs(found.reshape(expected.shape) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_nothing_is_folded_across_activations() -> None:
    inputs = {"image": (2, 1, 28, 28), "z": (2, 8)}
    for graph in trace(build("notebook-relu", (1, 28, 28), 8), (1, 28, 28), 8):
        model, what = simplify(graph)
        assert not what.rewrites
        assert not what.removals
        assert operations(model) in (operations(graph), [*operations(graph)[:-2], "Reshape", "Sigmoid"])
        x = np.random.default_rng(0).random(inputs[graph.graph.input[0].name])
        for found, expected in zip(run(model, x), run(graph, x), strict=True):
            np.testing.assert_array_equal(found, expected)
