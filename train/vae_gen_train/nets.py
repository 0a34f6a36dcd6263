"""The networks, read top to bottom.

A VAE here is an encoder, image [batch, C, H, W] in [0, 1] -> mean and log-variance of q(z | image),
each [batch, latent_dim], and a decoder, z [batch, latent_dim] -> image. Neither holds any randomness
but dropout in training mode.

Kingma & Welling 2014, "Auto-Encoding Variational Bayes" (arXiv:1312.6114).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vae_gen.errors import UsageError
from vae_gen.images import ImageShape

MOST_WEIGHTS = 500_000_000  # of the encoder, or of the decoder: an ONNX file holds 2 GiB, and each has 4 bytes
CONV_SMALLEST = 8  # pixels of a side


class Encoder(nn.Module):
    """image [batch, C, H, W] -> (mean, log_var), each [batch, latent_dim]."""

    def __init__(self, features: nn.Module, width: int, latent_dim: int) -> None:
        super().__init__()
        self.features = features  # image -> [batch, width]
        self.mean = nn.Linear(width, latent_dim)
        self.log_var = nn.Linear(width, latent_dim)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(image)
        return self.mean(features), self.log_var(features)


class VAE(nn.Module):
    """An encoder and a decoder that belong together."""

    def __init__(self, encoder: Encoder, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, image: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """image -> (reconstruction, mean, log_var), with one draw of z from the posterior.

        `noise` [batch, latent_dim] is what is drawn from N(0, 1), by default fresh.
        """
        mean, log_var = self.encoder(image)
        z = mean + torch.exp(0.5 * log_var) * (torch.randn_like(mean) if noise is None else noise)
        return self.decoder(z), mean, log_var


def same_padding(kernel_size: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "same" padding, (before, after), for sizes that are multiples of `stride`.

    The total is kernel_size - stride; when it is odd, the extra pixel comes after.
    """
    total = max(kernel_size - stride, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: size -> size / stride."""

    def forward(self, input: Tensor) -> Tensor:
        before, after = same_padding(self.kernel_size[0], self.stride[0])
        if before == after:
            return F.conv2d(input, self.weight, self.bias, self.stride, before)
        return F.conv2d(F.pad(input, (before, after, before, after)), self.weight, self.bias, self.stride)


class SameConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution with TensorFlow's "same" padding: size -> size * stride.

    It is the gradient of SameConv2d with respect to its input; weights are laid out as in
    nn.ConvTranspose2d, [in, out, kernel, kernel]. With stride 1 it is computed as what it then is, a
    convolution with the kernel turned by 180 degrees, which every ONNX engine runs better than ConvTranspose.
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        before, after = same_padding(kernel, stride)
        if stride == 1:
            turned = self.weight.flip(2, 3).transpose(0, 1).contiguous()  # for Apple's GPUs: see memory_format
            low, high = kernel - 1 - before, kernel - 1 - after
            return F.conv2d(F.pad(input, (low, high, low, high)), turned, self.bias)
        assert before == after, "other kernels need what PyTorch calls output padding"
        return F.conv_transpose2d(input, self.weight, self.bias, stride, before)


class Crop(nn.Module):
    """[batch, C, rows, columns] -> its upper left corner, [batch, C, height, width]."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :, : self.height, : self.width]


class Pixels(nn.Sigmoid):
    """Logits -> values in [0, 1]. Of logits in bfloat16, which has nothing between 0.996 and 1, in float32."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.float() if input.dtype is torch.bfloat16 else input)


def notebook_vae(image_shape: ImageShape, latent_dim: int) -> VAE:
    """The notebook's network, to the letter: no activation between or after its convolutions."""
    return _notebook_vae(image_shape, latent_dim, nn.Identity, nn.Identity, drop=0.0)


def notebook_relu_vae(image_shape: ImageShape, latent_dim: int) -> VAE:
    """The notebook's network as its author first published it: activations and dropout (keep 0.8)."""
    return _notebook_vae(image_shape, latent_dim, lambda: nn.LeakyReLU(0.3), nn.ReLU, drop=0.2)


def _notebook_vae(
    image_shape: ImageShape,
    latent_dim: int,
    encoder_activation: Callable[[], nn.Module],
    decoder_activation: Callable[[], nn.Module],
    drop: float,
) -> VAE:
    channels, height, width = image_shape
    if height % 4 or width % 4:
        raise UsageError(f"images are {height}x{width}; the notebook's network needs multiples of 4, such as 28x28")
    rows, columns = height // 4, width // 4
    filters, kernel = 64, 4
    features = nn.Sequential()
    for stride, (inputs, outputs) in zip((2, 2, 1), pairwise((channels, filters, filters, filters)), strict=True):
        features.append(SameConv2d(inputs, outputs, kernel, stride))
        features.append(encoder_activation())
        features.append(nn.Dropout(drop))
    features.append(nn.Flatten())
    encoder = Encoder(features, rows * columns * filters, latent_dim)

    # 24 -> 49 for 28x28: half of the small image's pixels, then all of them.
    pixels = rows * columns
    hidden = max(1, pixels // 2)
    decoder = nn.Sequential(
        nn.Linear(latent_dim, hidden),
        nn.LeakyReLU(0.3),
        nn.Linear(hidden, pixels),
        nn.LeakyReLU(0.3),
        nn.Unflatten(1, (1, rows, columns)),
        SameConvTranspose2d(1, filters, kernel, stride=2),
        decoder_activation(),
        nn.Dropout(drop),
        SameConvTranspose2d(filters, filters, kernel, stride=1),
        decoder_activation(),
        nn.Dropout(drop),
        SameConvTranspose2d(filters, filters, kernel, stride=1),
        decoder_activation(),
        nn.Flatten(),
        nn.Linear(4 * pixels * filters, math.prod(image_shape)),
        Pixels(),
        nn.Unflatten(1, image_shape),
    )
    vae = VAE(encoder, decoder)
    vae.apply(_initialise_as_tensorflow)
    return vae


def _initialise_as_tensorflow(layer: nn.Module) -> None:
    """Glorot-uniform weights and zero biases, the defaults of tf.layers (Glorot & Bengio 2010, eq. 16)."""
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def mlp_vae(image_shape: ImageShape, latent_dim: int) -> VAE:
    """Dense layers only: for small pictures (784 values), the most that a CPU can make of its time.

    The encoder's units leak. With nn.ReLU a third of a layer falls silent for good in the first steps on MNIST, when
    the KL divergence is large.
    """
    values = math.prod(image_shape)
    features = nn.Sequential(nn.Flatten(), *_dense(values, 1024, 512, activation=lambda: nn.LeakyReLU(0.2)))
    decoder = nn.Sequential(
        *_dense(latent_dim, 256, 512), nn.Linear(512, values), Pixels(), nn.Unflatten(1, image_shape)
    )
    return VAE(Encoder(features, 512, latent_dim), decoder)


def _dense(*widths: int, activation: Callable[[], nn.Module] = nn.ReLU) -> list[nn.Module]:
    return [layer for sizes in pairwise(widths) for layer in (nn.Linear(*sizes), activation())]


def conv_vae(image_shape: ImageShape, latent_dim: int) -> VAE:
    """Convolutions that halve the image until its shorter side has 4 to 7 pixels, and a decoder that doubles it back.

    Doubling is the repetition of pixels before a convolution, which leaves no chequerboard (Odena et al. 2016,
    "Deconvolution and Checkerboard Artifacts") and which every ONNX engine runs well. It takes most of the time, so the
    encoder may have twice its filters. What it has doubled is cropped where the image cannot be halved evenly.
    """
    channels, height, width = image_shape
    if min(height, width) < CONV_SMALLEST:
        fitting = "x".join(str(max(CONV_SMALLEST, side)) for side in (height, width))
        raise UsageError(
            f"images are {height}x{width}; the conv network needs at least {CONV_SMALLEST}x{CONV_SMALLEST}, "
            f"such as --image-size {fitting}; the preset mlp takes any size"
        )
    halvings = (min(height, width) // 4).bit_length() - 1
    reading, filters = ([min(first << level, 256) for level in range(halvings)] for first in (32, 16))
    hidden = 512

    features = nn.Sequential()
    for inputs, outputs in pairwise((channels, *reading)):
        features.extend([nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.ReLU()])
    values = (height >> halvings) * (width >> halvings) * reading[-1]
    features.extend([nn.Flatten(), *_dense(values, hidden)])

    rows, columns, deepest = -(-height >> halvings), -(-width >> halvings), filters[-1]
    decoder = nn.Sequential(*_dense(latent_dim, hidden, rows * columns * deepest))
    decoder.append(nn.Unflatten(1, (deepest, rows, columns)))
    for inputs, outputs in pairwise((deepest, *reversed(filters))):
        decoder.extend([nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()])
    if (rows << halvings, columns << halvings) != (height, width):
        decoder.append(Crop(height, width))
    decoder.extend([nn.Conv2d(filters[0], channels, 3, padding=1), Pixels()])
    vae = VAE(Encoder(features, hidden, latent_dim), decoder)
    vae.apply(_initialise_for_relu)
    nn.init.zeros_(vae.encoder.log_var.weight)  # at first every posterior is as wide as the prior
    return vae


def _initialise_for_relu(layer: nn.Module) -> None:
    """Weights that keep a signal's size from layer to layer. With PyTorch's own it shrinks, and learning is slow.

    He et al. 2015, "Delving Deep into Rectifiers", eq. 10.
    """
    if isinstance(layer, nn.Linear | nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


NETWORKS: dict[str, Callable[[ImageShape, int], VAE]] = {
    "notebook": notebook_vae,
    "notebook-relu": notebook_relu_vae,
    "mlp": mlp_vae,
    "conv": conv_vae,
}


def build(network: str, image_shape: ImageShape, latent_dim: int) -> VAE:
    """A freshly initialised network of that name. Raises UsageError as `check_size` does."""
    check_size(network, image_shape, latent_dim)
    return NETWORKS[network](image_shape, latent_dim)


def check_size(network: str, image_shape: ImageShape, latent_dim: int) -> None:
    """Raise UsageError if there is no network of that name, or none for such images, or it would be too large."""
    if network not in NETWORKS:
        raise UsageError(f"unknown network {network!r}; known: {', '.join(NETWORKS)}")
    with torch.device("meta"):
        vae = NETWORKS[network](image_shape, latent_dim)
    weights = max(sum(weight.numel() for weight in half.parameters()) for half in (vae.encoder, vae.decoder))
    if weights > MOST_WEIGHTS:
        channels, height, width = image_shape
        raise UsageError(
            f"images are {height}x{width} with channels {channels}; the network {network} with {latent_dim:,} latents "
            f"would have {weights:,} weights for them, and a file may hold {MOST_WEIGHTS:,}; give a smaller "
            f"--image-size, such as 32{', a' if network == 'conv' else ', --preset conv, or a'} smaller --latent-dim"
        )
