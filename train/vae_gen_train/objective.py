"""What training minimises: one small function per term, in nats per image.

The objective is a reconstruction term plus beta times the KL divergence of the posterior from the prior (Higgins et
al. 2017, "beta-VAE", eq. 4; beta = 1 is the negative ELBO of Kingma & Welling 2014, eq. 7).

Two of its parts are functions of a mean over the batch and not sums over images: the variance of `gaussian`, and free
bits. However a batch is divided, that mean is the whole batch's (distributed.World.average among processes,
valued_at among micro-batches). `sse` and `bce` without free bits are sums over images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from vae_gen.evaluation.metrics import ROUNDING_ERROR

VARIANCE_FLOOR = ROUNDING_ERROR  # bytes hold no finer differences

Average = Callable[[Tensor], Tensor]  # the mean over a part of a batch -> the mean over all of it


@dataclass(frozen=True)
class Objective:
    """A reconstruction term: an error of each image, and what the errors' mean over images is in nats."""

    error: Callable[[Tensor, Tensor], Tensor]  # (output, image), each [batch, C, H, W] -> [batch]
    nats: Callable[[Tensor, int], Tensor]  # (mean error, values in an image) -> nats per image
    # By the likelihood that the term stands for, a value's variance is `variance` times the square of its deviation.
    variance: float | None  # None: it is calibrated, by the errors of reconstructions
    deviations: Callable[[Tensor], Tensor]  # output [batch, C, H, W] -> the same shape
    unit: str  # what the manifest says of the term


@dataclass(frozen=True)
class Terms:
    """The objective's terms, means over a batch, each a scalar."""

    reconstruction: Tensor  # nats per image
    kl: Tensor  # nats per image, neither weighted nor bounded
    penalty: Tensor  # the KL divergence as the objective counts it: with free bits, times its weight
    squared_error: Tensor  # the sum over an image's values, whatever the objective

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.reconstruction + self.penalty


def measure(
    objective: Objective,
    image: Tensor,
    output: Tensor,
    mean: Tensor,
    log_var: Tensor,
    kl_weight: float,
    free_bits: float,
    average: Average,
) -> Terms:
    """The terms for a batch: images and outputs [batch, C, H, W], posteriors [batch, latent_dim] each.

    Where these are part of a batch, `average` makes means of the whole of theirs.
    """
    error = average(objective.error(output, image).mean())
    if objective.error is sum_of_squared_errors:
        squared_error = error
    else:
        squared_error = average(sum_of_squared_errors(output.detach(), image).mean())
    of_latents = kl_to_standard_normal(mean, log_var)
    kl = average(of_latents.sum(1).mean())
    bounded = free_bits_kl(average(of_latents.mean(0)), free_bits) if free_bits else kl
    return Terms(objective.nats(error, image[0].numel()), kl, kl_weight * bounded, squared_error)


def valued_at(means: Sequence[Tensor]) -> Average:
    """What gives each mean of a part in turn the value of `means`; the gradient stays the part's.

    A function of it then has the gradient that it would have by this part at the whole's mean, so that those of all
    parts add up to the whole's.
    """
    in_turn = iter(means)
    return lambda mean: mean + (next(in_turn) - mean.detach())


def sum_of_squared_errors(output: Tensor, image: Tensor) -> Tensor:
    """Sum over pixels of (output - image)^2: [batch, C, H, W] twice -> [batch]."""
    return (output - image).square().flatten(1).sum(1)


def cross_entropy(output: Tensor, image: Tensor) -> Tensor:
    """Sum over pixels of -(x log p + (1 - x) log(1 - p)) for image x and output p: [batch, C, H, W] twice -> [batch].

    The Bernoulli decoder of Kingma & Welling 2014, appendix C.1. Of grey values it is no likelihood
    (Loaiza-Ganem & Cunningham 2019), but widely used all the same. PyTorch bounds the logarithms below by -100, and
    refuses an output that is no number: it goes around.
    """
    error = F.binary_cross_entropy(output.nan_to_num(), image, reduction="none") + 0 * output
    return error.flatten(1).sum(1)


def as_it_is(error: Tensor, _values: int) -> Tensor:
    """The error itself. For squared errors: up to a constant a Gaussian decoder of variance 1/2, the notebook's."""
    return error


def calibrated_gaussian(squared_error: Tensor, values: int) -> Tensor:
    """The negative log-likelihood of a Gaussian decoder with the one variance that suits the batch best.

    values / 2 (log(2 pi sigma^2) + 1), where sigma^2 = squared_error / values is the mean squared error. The gradient
    passes through the logarithm; it equals that of sigma^2 held constant, since sigma^2 is optimal.
    Rybkin et al. 2021, "Simple and Effective VAE Training with Calibrated Decoders", the
    optimal sigma-VAE. Below VARIANCE_FLOOR the variance is the floor.
    """
    mean_square = squared_error / values
    variance = calibrated_variance(mean_square)
    return values / 2 * (torch.log(2 * math.pi * variance) + mean_square / variance)


def calibrated_variance(mean_square: Tensor) -> Tensor:
    """The variance that suits errors of this mean square best: it, or VARIANCE_FLOOR if it is below that."""
    return mean_square.clamp(min=VARIANCE_FLOOR)


def alike(output: Tensor) -> Tensor:
    """1 for each value: a Gaussian decoder's values all vary alike."""
    return torch.ones_like(output)


def bernoulli_deviations(output: Tensor) -> Tensor:
    """sqrt(p (1 - p)) for each output p; the variance is at least VARIANCE_FLOOR.

    The second derivative of -(x log p + (1 - x) log(1 - p)) by p, x / p^2 + (1 - x) / (1 - p)^2, is 1 / (p (1 - p)) on
    average over x of mean p: the Fisher information. A Gaussian's, of either derivation, is 1 / variance.
    """
    return (output * (1 - output)).clamp(min=VARIANCE_FLOOR).sqrt()


def kl_to_standard_normal(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(0, 1)) of each latent: [batch, latent_dim] -> [batch, latent_dim].

    Kingma & Welling 2014, appendix B.
    """
    return -0.5 * (1 + log_var - mean.square() - log_var.exp())


def free_bits_kl(kl: Tensor, free_bits: float) -> Tensor:
    """Sum over latents of max(free_bits, KL), with each latent's mean KL over the batch in nats: [latent_dim] -> [].

    Below `free_bits` a latent costs the same whatever it says, so that training has no reason to silence it.
    Kingma et al. 2016, "Improving Variational Inference with Inverse Autoregressive Flow", appendix C.8, eq. 15.
    """
    return kl.clamp(min=free_bits).sum()


OBJECTIVES = {
    # A Gaussian's negative logarithm is (x - output)^2 / (2 variance), and a constant.
    "sse": Objective(sum_of_squared_errors, as_it_is, 0.5, alike, "sum of squared errors"),
    "bce": Objective(cross_entropy, as_it_is, 1.0, bernoulli_deviations, "binary cross-entropy"),
    "gaussian": Objective(
        sum_of_squared_errors,
        calibrated_gaussian,
        None,
        alike,
        "negative log-likelihood of a Gaussian of the errors' variance",
    ),
}
