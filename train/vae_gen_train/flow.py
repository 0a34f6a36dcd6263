"""The prior: an invertible map between the standard normal distribution and where a VAE's latents really lie.

A VAE whose decoder is sharp leaves its aggregate posterior far from N(0, I): decoded noise is then no picture.
The flow learns the way there, u ~ N(0, I) -> z, and is put before the decoder; its inverse follows the encoder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_LOG_SCALE = 2.0  # one coupling stretches by at most e^2


class Flow(nn.Module):
    """u [batch, latent_dim] <-> z [batch, latent_dim]: couplings with a fixed rotation before each, then a scaling.

    An affine coupling leaves the first half of its input, and scales and shifts the second by what a small network says
    of the first: Dinh et al. 2017, "Density estimation using Real NVP" (arXiv:1605.08803), eq. 4 to 8; the scale is
    bounded as in Ardizzone et al. 2019 (arXiv:1907.02392), but by a hyperbolic tangent. The couplings' networks are
    alike, and a layer of all of them is one tensor: an optimiser then has 6 to change, and not 6 for each.

    Both directions also give the logarithm of the absolute Jacobian determinant, [batch].
    """

    rotations: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, latent_dim: int, couplings: int, width: int) -> None:
        super().__init__()
        self.latent_dim, self.kept = latent_dim, latent_dim // 2
        sizes = [*pairwise((self.kept, width, width, 2 * (latent_dim - self.kept)))]
        self.weights = nn.ParameterList(_first_values(couplings, out, into, inputs=into) for into, out in sizes)
        self.biases = nn.ParameterList(_first_values(couplings, out, inputs=into) for into, out in sizes)
        nn.init.zeros_(self.weights[-1])  # at first the identity
        nn.init.zeros_(self.biases[-1])
        random = torch.randn(couplings, latent_dim, latent_dim)
        self.register_buffer("rotations", torch.linalg.qr(random)[0])  # orthogonal: the transpose is the inverse
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("scale", torch.ones(latent_dim))

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        log_scales = []
        for rotation, *layers in self._couplings():
            kept, changed, log_scale, shift = self._split(u @ rotation, layers)
            u = torch.cat([kept, changed * log_scale.exp() + shift], 1)
            log_scales.append(log_scale)
        return self.mean + self.scale * u, self._log_det(log_scales)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z = self.standardised(z)
        log_scales = []
        for rotation, *layers in reversed(self._couplings()):
            kept, changed, log_scale, shift = self._split(z, layers)
            z = torch.cat([kept, (changed - shift) * torch.exp(-log_scale)], 1) @ rotation.T
            log_scales.append(log_scale)
        return z, -self._log_det(log_scales)

    def standardised(self, z: Tensor) -> Tensor:
        """z with a mean of 0 and a variance of 1, by those of all latents: what the couplings see."""
        return (z - self.mean) / self.scale

    def _couplings(self) -> list[tuple[Tensor, ...]]:
        """Of each coupling the rotation before it, its network's weights, and their biases."""
        return [*zip(self.rotations, *self.weights, *self.biases, strict=True)]

    def _split(self, values: Tensor, layers: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What a coupling keeps and what it changes, and the scale's logarithm and the shift of the latter."""
        kept, changed = values.tensor_split([self.kept], 1)
        w1, w2, w3, b1, b2, b3 = layers
        hidden = F.linear(F.linear(kept, w1, b1).relu(), w2, b2).relu()
        log_scale, shift = F.linear(hidden, w3, b3).chunk(2, 1)
        return kept, changed, MAX_LOG_SCALE * torch.tanh(log_scale), shift

    def _log_det(self, log_scales: list[Tensor]) -> Tensor:
        """Of the way from u to z, by those of all couplings."""
        return self.scale.log().sum() + torch.stack(log_scales).sum((0, 2))


def _first_values(*shape: int, inputs: int) -> Tensor:
    """What nn.Linear with so many inputs begins with, its weights as its biases."""
    bound = 1 / math.sqrt(inputs)
    return torch.empty(*shape).uniform_(-bound, bound)


def log_density(u: Tensor, log_det: Tensor) -> Tensor:
    """log p(z) of each row in nats, [batch], by both outputs of a flow's inverse (Dinh et al. 2017, eq. 3)."""
    return log_det - 0.5 * (u.square() + math.log(2 * math.pi)).sum(1)
