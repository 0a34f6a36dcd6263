"""The prior: an invertible map between the standard normal distribution and where a VAE's latents really lie.

A VAE whose decoder is sharp leaves its aggregate posterior far from N(0, I): decoded noise is then no picture.
The flow learns the way there, u ~ N(0, I) -> z, and is put before the decoder; its inverse follows the encoder.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

MAX_LOG_SCALE = 2.0  # one coupling stretches by at most e^2


class Coupling(nn.Module):
    """Affine coupling: the first half stays, the second is scaled and shifted by what a small network says of it.

    Dinh et al. 2017, "Density estimation using Real NVP" (arXiv:1605.08803), eq. 4 to 8; the scale is bounded
    as in Ardizzone et al. 2019 (arXiv:1907.02392), but by a hyperbolic tangent.
    """

    def __init__(self, latent_dim: int, width: int) -> None:
        super().__init__()
        kept, changed = latent_dim // 2, latent_dim - latent_dim // 2
        self.kept = kept
        self.network = nn.Sequential(
            nn.Linear(kept, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2 * changed)
        )
        last = cast(nn.Linear, self.network[-1])
        nn.init.zeros_(last.weight)  # at first the identity
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept, changed, log_scale, shift = self._split(x)
        return torch.cat([kept, changed * log_scale.exp() + shift], 1), log_scale.sum(1)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        kept, changed, log_scale, shift = self._split(y)
        return torch.cat([kept, (changed - shift) * torch.exp(-log_scale)], 1), -log_scale.sum(1)

    def _split(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        kept, changed = values[:, : self.kept], values[:, self.kept :]
        log_scale, shift = self.network(kept).chunk(2, 1)
        return kept, changed, MAX_LOG_SCALE * torch.tanh(log_scale), shift


class Flow(nn.Module):
    """u [batch, latent_dim] <-> z [batch, latent_dim]: couplings with a fixed rotation before each, then a scaling.

    Both directions also give the logarithm of the absolute Jacobian determinant, [batch].
    """

    rotations: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, latent_dim: int, couplings: int, width: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.couplings = nn.ModuleList(Coupling(latent_dim, width) for _ in range(couplings))
        random = torch.randn(couplings, latent_dim, latent_dim)
        self.register_buffer("rotations", torch.linalg.qr(random)[0])  # orthogonal: the transpose is the inverse
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("scale", torch.ones(latent_dim))

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        log_det = self.scale.log().sum()
        for rotation, coupling in zip(self.rotations, self.couplings, strict=True):
            u, change = coupling(u @ rotation)
            log_det = log_det + change
        return self.mean + self.scale * u, log_det

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z = (z - self.mean) / self.scale
        log_det = -self.scale.log().sum()
        for rotation, coupling in zip(self.rotations.flip(0), reversed(self.couplings), strict=True):
            z, change = cast(Coupling, coupling).inverse(z)
            z, log_det = z @ rotation.T, log_det + change
        return z, log_det


def log_density(u: Tensor, log_det: Tensor) -> Tensor:
    """log p(z) of each row in nats, [batch], by both outputs of a flow's inverse (Dinh et al. 2017, eq. 3)."""
    return log_det - 0.5 * (u.square() + math.log(2 * math.pi)).sum(1)
