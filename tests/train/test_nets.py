"""The notebook's network against the numbers and formulas that define it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from vae_gen.errors import UsageError
from vae_gen_train.nets import VAE, SameConv2d, SameConvTranspose2d, build, same_padding


def shapes_of_layers(network: nn.Module, example: torch.Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """(kind of layer, shape of its output without the batch) of every layer with parameters, in order."""
    found: list[tuple[str, tuple[int, ...]]] = []
    handles = [
        layer.register_forward_hook(
            lambda layer, _input, output: found.append((type(layer).__name__, tuple(output.shape[1:])))
        )
        for layer in network.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    ]
    network(example)
    for handle in handles:
        handle.remove()
    return found


@pytest.fixture(params=["notebook", "notebook-relu"])
def vae(request: pytest.FixtureRequest) -> VAE:
    return build(request.param, (1, 28, 28), 8)


def test_every_layer_has_the_shape_of_the_notebook(vae: VAE) -> None:
    assert shapes_of_layers(vae.encoder, torch.rand(2, 1, 28, 28)) == [
        ("SameConv2d", (64, 14, 14)),
        ("SameConv2d", (64, 7, 7)),
        ("SameConv2d", (64, 7, 7)),
        ("Linear", (8,)),
        ("Linear", (8,)),
    ]
    assert vae.encoder.mean.in_features == 3136
    assert shapes_of_layers(vae.decoder, torch.rand(2, 8)) == [
        ("Linear", (24,)),
        ("Linear", (49,)),
        ("SameConvTranspose2d", (64, 14, 14)),
        ("SameConvTranspose2d", (64, 14, 14)),
        ("SameConvTranspose2d", (64, 14, 14)),
        ("Linear", (784,)),
    ]
    assert vae.decoder(torch.rand(2, 8)).shape == (2, 1, 28, 28)


def test_the_parameters_are_as_many_as_in_the_notebook(vae: VAE) -> None:
    layers = [layer for layer in vae.decoder if list(layer.parameters())]
    counts = [sum(parameter.numel() for parameter in layer.parameters()) for layer in layers]
    dense = [8 * 24 + 24, 24 * 49 + 49, 12544 * 784 + 784]
    transposed = [16 * 64 + 64, 16 * 64 * 64 + 64, 16 * 64 * 64 + 64]
    assert counts == [*dense[:2], *transposed, dense[2]]
    assert sum(counts) == 9_969_009
    assert sum(parameter.numel() for parameter in vae.encoder.parameters()) == 132_288 + 2 * (3136 * 8 + 8)


def test_activations_and_dropout_stand_where_they_should() -> None:
    def kinds(network: nn.Module) -> list[str]:
        return [
            f"{type(layer).__name__}({getattr(layer, 'negative_slope', getattr(layer, 'p', ''))})"
            for layer in network.modules()
            if isinstance(layer, nn.LeakyReLU | nn.ReLU | nn.Dropout | nn.Sigmoid) and getattr(layer, "p", 1) > 0
        ]

    plain, relu = (build(name, (1, 28, 28), 8) for name in ("notebook", "notebook-relu"))
    dense = ["LeakyReLU(0.3)", "LeakyReLU(0.3)"]
    assert kinds(plain.encoder) == []
    assert kinds(plain.decoder) == [*dense, "Pixels()"]
    assert kinds(relu.encoder) == ["LeakyReLU(0.3)", "Dropout(0.2)"] * 3
    assert kinds(relu.decoder) == [*dense, *["ReLU()", "Dropout(0.2)"] * 2, "ReLU()", "Pixels()"]


def test_dropout_acts_in_training_only() -> None:
    relu = build("notebook-relu", (1, 28, 28), 8)
    z = torch.randn(2, 8)
    assert not torch.equal(relu.decoder(z), relu.decoder(z))
    relu.eval()
    assert torch.equal(relu.decoder(z), relu.decoder(z))


def test_same_padding_is_tensorflows() -> None:
    # tf.nn, "SAME": total = max((ceil(n / stride) - 1) * stride + kernel - n, 0), before = total // 2
    for kernel in (1, 2, 3, 4, 5):
        for stride in (1, 2, 3):
            size = 6 * stride
            total = max((size // stride - 1) * stride + kernel - size, 0)
            assert same_padding(kernel, stride) == (total // 2, total - total // 2)


def direct_convolution(image: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """TensorFlow's "same" convolution, as the sum that defines it: image [in, h, w], weight [out, in, k, k]."""
    channels, height, width = image.shape
    outputs, _, kernel, _ = weight.shape
    before = max(kernel - stride, 0) // 2
    result = np.zeros((outputs, height // stride, width // stride))
    for o, y, x, c, i, j in np.ndindex(*result.shape, channels, kernel, kernel):
        row, column = y * stride + i - before, x * stride + j - before
        if 0 <= row < height and 0 <= column < width:
            result[o, y, x] += image[c, row, column] * weight[o, c, i, j]
    return result


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_is_the_sum_that_defines_it(stride: int) -> None:
    layer = SameConv2d(2, 3, 4, stride, bias=False).double()
    image = torch.randn(1, 2, 6, 4, dtype=torch.float64)
    expected = direct_convolution(image[0].numpy(), layer.weight.detach().numpy(), stride)
    np.testing.assert_allclose(layer(image)[0].detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_transposed_convolution_is_the_adjoint_of_the_convolution(stride: int) -> None:
    # <conv(x), y> = <x, conv_transpose(y)> for all x and y defines it, the crop at the borders included.
    layer = SameConvTranspose2d(3, 2, 4, stride, bias=False).double()
    weight = layer.weight.detach().numpy()  # [in, out, k, k], which is [out, in, k, k] of the convolution
    y = torch.randn(1, 3, 6, 4, dtype=torch.float64)
    found = layer(y)[0].detach().numpy()
    assert found.shape == (2, 6 * stride, 4 * stride)
    for index in np.ndindex(*found.shape):
        x = np.zeros(found.shape)
        x[index] = 1
        expected = (direct_convolution(x, weight, stride) * y[0].numpy()).sum()
        assert found[index] == pytest.approx(expected, abs=1e-12)


def test_a_stride_of_one_is_pytorchs_padding_of_one_without_last_row_and_column() -> None:
    layer = SameConvTranspose2d(3, 2, 4, 1).double()
    y = torch.randn(2, 3, 7, 5, dtype=torch.float64)
    expected = nn.functional.conv_transpose2d(y, layer.weight, layer.bias, padding=1)[:, :, :-1, :-1]
    torch.testing.assert_close(layer(y), expected)


def test_weights_begin_glorot_uniform_and_biases_zero() -> None:
    vae = build("notebook", (1, 28, 28), 8)
    for layer, fan_in, fan_out in (
        (vae.decoder[14], 12544, 784),
        (vae.decoder[8], 16 * 64, 16 * 64),
        (vae.encoder.mean, 3136, 8),
    ):
        bound = (6 / (fan_in + fan_out)) ** 0.5
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert not layer.bias.any()


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown network 'resnet'; known: notebook, notebook-relu"):
        build("resnet", (1, 28, 28), 8)
    with pytest.raises(UsageError, match=r"images are 30x28; .* multiples of 4"):
        build("notebook", (1, 30, 28), 8)


SHAPES = [
    *((1, 28, 28), (3, 32, 48), (4, 64, 64), (3, 256, 256), (1, 17, 5)),
    *((3, 100, 75), (3, 31, 63), (1, 8, 15), (3, 12, 150), (3, 127, 128)),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_networks_for_any_size_return_what_they_were_given(network: str, shape: tuple[int, int, int]) -> None:
    if network == "conv" and shape == (1, 17, 5):
        with pytest.raises(UsageError, match=r"17x5; .* at least 8x8, such as --image-size 17x8; .* mlp takes any"):
            build(network, shape, 6)
        return
    torch.manual_seed(0)
    vae = build(network, shape, 6)
    image = torch.rand(2, *shape)
    output, mean, log_var = vae(image)
    assert (output.shape, mean.shape, log_var.shape) == ((2, *shape), (2, 6), (2, 6))
    assert 0 < output.min() < output.max() < 1
    output.square().sum().backward()
    assert all(parameter.grad is not None for parameter in vae.decoder.parameters())
    # Every pixel of the image reaches the mean, and every latent every pixel.
    seen = torch.autograd.functional.jacobian(lambda x: vae.encoder(x)[0].sum(), image[:1])
    assert (seen != 0).float().mean() > 0.9


def test_the_dense_network_is_what_the_figures_are_of() -> None:
    vae = build("mlp", (1, 28, 28), 16)
    assert shapes_of_layers(vae.encoder, torch.rand(2, 1, 28, 28)) == [
        ("Linear", (1024,)),
        ("Linear", (512,)),
        ("Linear", (16,)),
        ("Linear", (16,)),
    ]
    assert [shape for _, shape in shapes_of_layers(vae.decoder, torch.rand(2, 16))] == [(256,), (512,), (784,)]


@pytest.mark.parametrize(
    ("size", "deepest", "first"),
    [
        ((28, 28), (64, 7, 7), (32, 14, 14)),
        ((32, 48), (128, 4, 6), (64, 8, 12)),
        ((64, 64), (256, 4, 4), (128, 8, 8)),
        ((256, 256), (256, 4, 4), (256, 8, 8)),
        ((30, 31), (64, 7, 7), (32, 16, 16)),  # 32x32 are cropped
        ((100, 75), (256, 6, 4), (128, 14, 10)),  # 112x80
    ],
)
def test_convolutions_halve_the_image_down_to_four_to_seven(
    size: tuple[int, int], deepest: tuple[int, ...], first: tuple[int, ...]
) -> None:
    vae = build("conv", (3, *size), 5)
    convolutions = [shape for kind, shape in shapes_of_layers(vae.encoder, torch.rand(1, 3, *size)) if kind == "Conv2d"]
    assert convolutions[-1] == deepest
    assert convolutions[0] == (32, size[0] // 2, size[1] // 2)
    decoder = [shape for kind, shape in shapes_of_layers(vae.decoder, torch.rand(1, 5)) if kind == "Conv2d"]
    assert decoder[0] == first
    assert decoder[-1] == (3, *size)
    assert all(layer.padding == (1, 1) for layer in vae.decoder if isinstance(layer, nn.Conv2d))


def test_a_signal_keeps_its_size_through_the_first_weights_of_convolutions() -> None:
    torch.manual_seed(0)
    vae = build("conv", (3, 64, 64), 32)
    image, z = torch.rand(8, 3, 64, 64), torch.randn(32, 32)
    with torch.no_grad():
        features = vae.encoder.features(image)
        _, log_var = vae.encoder(image)
        logits = vae.decoder[:-1](z)
    assert 0.1 < features.square().mean() / image.square().mean() < 3
    assert 0.3 < logits.std(0).square().mean() < 10  # PyTorch's own weights: 1e-5
    assert torch.equal(log_var, torch.zeros(8, 32))
