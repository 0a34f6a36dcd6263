"""What is measured about a model; numpy only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vae_gen.images import FloatImages
from vae_gen.latents import Latents


def sum_of_squared_errors(reconstructions: FloatImages, images: FloatImages) -> npt.NDArray[np.float64]:
    """For each image the sum over its values of (reconstruction - image)^2: [n, C, H, W] twice -> [n]."""
    difference = reconstructions.astype(np.float64) - images
    sums: npt.NDArray[np.float64] = np.einsum("nchw,nchw->n", difference, difference)
    return sums


def kl_to_standard_normal(mean: Latents, log_var: Latents) -> npt.NDArray[np.float64]:
    """KL(N(mean, exp(log_var)) || N(0, 1)) of each latent in nats: [n, latent_dim] twice -> [n, latent_dim].

    Kingma & Welling 2014, appendix B.
    """
    mean64, log_var64 = mean.astype(np.float64), log_var.astype(np.float64)
    return -0.5 * (1 + log_var64 - mean64**2 - np.exp(log_var64))
