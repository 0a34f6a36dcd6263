"""What is measured about images and latents; numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vae_gen.images import FloatImages
from vae_gen.latents import Latents

ROUNDING_ERROR = 1 / (12 * 255**2)  # the mean square of an error that is uniform between two of 256 levels
ACTIVE_VARIANCE = 0.01


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


def peak_signal_to_noise_ratio(mean_squared_errors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """10 log10(1 / MSE) in dB, for each image's mean squared error, pixels in [0, 1]: [n] -> [n].

    No error counts as less than that of rounding to 8 bits, so that a perfect image has 58.9 dB and not infinity.
    """
    return -10 * np.log10(np.maximum(mean_squared_errors, ROUNDING_ERROR))


def active_units(mean: Latents) -> npt.NDArray[np.bool_]:
    """Which latents' posterior means vary by more than 0.01 over the images: [n, latent_dim] -> [latent_dim].

    Burda, Grosse & Salakhutdinov 2016, section 5: the variance of E[z | image].
    """
    return np.asarray(mean.astype(np.float64).var(axis=0) > ACTIVE_VARIANCE)


@dataclass(frozen=True)
class CalibratedElbo:
    """The evidence lower bound under a Gaussian decoder whose one variance is the best for the data."""

    sigma: float  # the decoder's standard deviation, pixels in [0, 1]
    nats_per_image: float  # a density's logarithm: higher is better, and it may be above 0
    bits_per_dimension: float  # the same, negated: lower is better; add log2(255) = 7.994 for pixels in 0 ... 255


def calibrated_elbo(sse: float, kl: float, values: int) -> CalibratedElbo:
    """The ELBO of images with `values` values each, from the means over the images of two sums.

    `sse` is the sum of squared errors after a draw from the posterior, `kl` the KL divergence in nats, D = `values`:

        sigma^2 = sse / D,  ELBO = -D/2 (log(2 pi sigma^2) + 1) - kl

    Rybkin, Daniilidis & Levine 2021 (sigma-VAE), in closed form. sigma^2 is at least the variance
    of rounding to 8 bits.
    """
    variance = max(sse / values, ROUNDING_ERROR)
    nats = -values / 2 * math.log(2 * math.pi * variance) - sse / (2 * variance) - kl
    return CalibratedElbo(math.sqrt(variance), nats, -nats / (values * math.log(2)))
