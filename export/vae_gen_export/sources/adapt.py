"""Anyone's encoder and decoder, made to take and return what a bundle's do.

An encoder may return

- a pair (mean, log_var), as tuple or list, or
- a mapping or an object with these two by one of the names in MEAN and LOG_VAR, or with a standard deviation by
  one of the names in DEVIATION,

each [batch, latent_dim]; a decoder the image, or a mapping or an object that has it by one of the names in IMAGE.
Whatever returns anything else needs a few lines around it, with methods `encode` and `decode` that return these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from vae_gen.errors import NetworkError
from vae_gen.images import ImageShape
from vae_gen.reading import UNIT, Range

MEAN = ("mean", "mu", "loc", "embedding")
LOG_VAR = ("log_var", "logvar", "log_variance", "log_covariance")
DEVIATION = ("std", "stddev", "sigma", "scale")
IMAGE = ("image", "reconstruction", "recon_x", "sample")


class Encoder(nn.Module):
    """image [batch, C, H, W] in [0, 1] -> (mean, log_var), each [batch, latent_dim].

    `method` of `network` is what encodes: a sub-module or a method. It gets pixels in `value_range`, and rows
    [batch, C * H * W] if it is `flat`.
    """

    def __init__(self, network: nn.Module, method: str, value_range: Range = UNIT, flat: bool = False) -> None:
        super().__init__()
        self.network, self.method, self.value_range, self.flat = network, method, value_range, flat

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.value_range
        if self.value_range != UNIT:
            image = image * (high - low) + low
        rows = image.flatten(1) if self.flat else image
        return posterior(getattr(self.network, self.method)(rows.clone()))  # it may work in place


class Decoder(nn.Module):
    """z [batch, latent_dim] -> image [batch, C, H, W] in [0, 1].

    `method` of `network` is what decodes. It makes pixels in `value_range`; rows of them become images of `shape`.
    """

    def __init__(
        self, network: nn.Module, method: str, value_range: Range = UNIT, shape: ImageShape | None = None
    ) -> None:
        super().__init__()
        self.network, self.method, self.value_range, self.shape = network, method, value_range, shape

    def forward(self, z: Tensor) -> Tensor:
        image = picture(getattr(self.network, self.method)(z.clone()))  # it may work in place
        low, high = self.value_range
        if self.value_range != UNIT:
            image = (image - low) * (1 / (high - low))
        return image if self.shape is None else image.reshape(-1, *self.shape)


def posterior(output: Any) -> tuple[Tensor, Tensor]:
    """The mean and the log-variance in what an encoder returned. Raises NetworkError if they are not found."""
    mean, log_var, deviation = (_named(output, names) for names in (MEAN, LOG_VAR, DEVIATION))
    if mean is not None and log_var is not None:
        return mean, log_var
    if mean is not None and deviation is not None:
        return mean, 2 * torch.log(deviation)
    if isinstance(output, tuple | list) and len(output) == 2 and all(isinstance(item, Tensor) for item in output):
        return output[0], output[1]
    raise NetworkError(
        f"the encoder returns {kind(output)}; it must return the pair (mean, log_var), each [batch, latent_dim], or "
        f"have them by name: {', '.join(MEAN)}; {', '.join(LOG_VAR)} or {', '.join(DEVIATION)}. "
        "Wrap it in a method `encode` that returns the pair"
    )


def picture(output: Any) -> Tensor:
    """The image in what a decoder returned. Raises NetworkError if it is not found."""
    image = output if isinstance(output, Tensor) else _named(output, IMAGE)
    if image is None:
        raise NetworkError(
            f"the decoder returns {kind(output)}; it must return the image, or have it by name: {', '.join(IMAGE)}. "
            "Wrap it in a method `decode` that returns the image"
        )
    return image


def kind(output: Any) -> str:
    """What a network returned, for people: a Tensor [2, 32]."""
    if isinstance(output, Tensor):
        return f"a Tensor {list(output.shape)}"
    if isinstance(output, Mapping):
        return f"a mapping with {', '.join(map(str, output)) or 'nothing in it'}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)} ({', '.join(map(kind, output))})"
    return "None" if output is None else f"an object of type {type(output).__name__}"


def _named(output: Any, names: tuple[str, ...]) -> Tensor | None:
    """The first tensor that `output` has by one of `names`, as an item or as an attribute."""
    if isinstance(output, Tensor):  # has methods `mean` and `std`
        return None
    for name in names:
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(value, Tensor):
            return value
    return None
