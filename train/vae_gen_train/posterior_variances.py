"""The variances that posteriors should have, given a decoder: a linear function of an encoder's features.

To second order about its mean, what training minimises, a reconstruction term plus beta times the KL divergence, is of
a Gaussian posterior with independent latents, up to a constant,

    beta / 2 sum over i of (p_i exp(log_var_i) - log_var_i),
    p_i = 1 + 1 / beta sum over an image's values of (d value / d u_i)^2 / variance,

with 1 / variance for the expected second derivative of the reconstruction term by a value of the decoder's output: the
Fisher information of the likelihood that the objective stands for (see objective.py; Laplace's method: Bishop 2006,
sections 4.4 and 10.1.2). The term divided by beta is that of a likelihood whose variance is beta times as large, under
the ELBO. Of a linear decoder and a Gaussian likelihood nothing is left out: p_i = 1 + |w_i|^2 / (beta variance) is then
on the diagonal of the exact posterior's precision, for beta 1 that of probabilistic PCA (Tipping & Bishop 1999: its
M / sigma^2). Free bits are left aside: below them a latent's KL divergence costs nothing, here it does.

The sum is linear in p, so an unbiased estimate does as well as p itself: (J^T v)_i^2 for noise v in the image, each
value divided by its deviation, and the decoder's Jacobian J, which one backward pass gives for all latents (Hutchinson
1990, "A Stochastic Estimator of the Trace of the Influence Matrix").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from vae_gen.images import ByteImages

from vae_gen_train.config import TrainConfig
from vae_gen_train.devices import to_float
from vae_gen_train.distributed import World
from vae_gen_train.evaluation import evaluating
from vae_gen_train.nets import VAE
from vae_gen_train.objective import OBJECTIVES, calibrated_variance, sum_of_squared_errors

VALUES = 16_384 * 784  # of images that the variances are fitted to, as far as there are so many
FEWEST = 4096  # images, at least; where there are fewer, some or all are taken several times
BATCH_VALUES = 2**18  # values of images at a time, so that a signal is soon heeded
ITERATIONS = 200  # at most; some thirty do
LEAST_BETA = 1e-6  # with no weight at all posteriors would have no width


@dataclass(frozen=True)
class Seen:
    """Images as a network sees them, measured by all processes together, until one of them is to stop."""

    device: torch.device
    world: World
    stopping: Callable[[], int]  # not 0 when a process is to stop

    def measured(self, measure: Callable[[Tensor], Tensor], images: ByteImages, count: int) -> Tensor | None:
        """What `measure` says of `count` of `images`, in float64 on the CPU; None if they are to stop.

        They are evenly spread, some or all taken several times if there are fewer. Every process measures as many.
        """
        count += -count % self.world.size
        rows = self.world.share(np.arange(count, dtype=np.intp) * len(images) // count)
        size = max(1, BATCH_VALUES // images[0].size)
        found = []
        for start in range(0, len(rows), size):
            if self.stopping():
                break
            image = to_float(images[rows[start : start + size]], self.device)
            found.append(measure(image).cpu().double())
        return None if self.world.largest(self.stopping()) else self.world.gathered(torch.cat(found))


def posterior_variances(
    vae: VAE, images: ByteImages, validation: ByteImages, config: TrainConfig, seen: Seen
) -> tuple[Tensor, Tensor] | None:
    """The layer for log_var behind the features of the encoder of `vae`, weight and bias; None if it is to stop.

    It suits the run's objective and beta. The decoder's variance of `gaussian` is that of the errors that posterior
    means have on the `validation` images; on those that it was trained on they are smaller. (What draws add to them, by
    a decoder that is linear between, was left out: with it MNIST's ELBO was 0.02 nats higher and that of 8x8 digits 1.4
    lower.)
    """
    objective = OBJECTIVES[config.objective]
    count = max(FEWEST, min(len(images), VALUES // images[0].size))

    def errors(image: Tensor) -> Tensor:
        mean, _ = vae.encoder(image)
        return sum_of_squared_errors(vae.decoder(mean), image)

    def features_and_slopes(image: Tensor) -> Tensor:
        mean, _ = vae.encoder(image)
        slopes = estimated_slopes(vae.decoder, mean, objective.deviations)
        return torch.cat([vae.encoder.features(image), slopes], 1)

    with evaluating(vae):
        variance: float | Tensor | None = objective.variance
        if variance is None:
            squared_errors = seen.measured(errors, validation, min(count, len(validation)))
            if squared_errors is None:
                return None
            variance = calibrated_variance(squared_errors.mean() / images[0].size)
        found = seen.measured(features_and_slopes, images, count)
        if found is None:
            return None
    features, slopes = found[:, : -config.latent_dim], found[:, -config.latent_dim :]
    return fit_log_variances(features, estimated_precisions(slopes, variance, config.beta), min(count, len(images)))


def estimated_slopes(decoder: nn.Module, u: Tensor, deviations: Callable[[Tensor], Tensor]) -> Tensor:
    """The sum over an image's values of (d value / d u_i / deviation)^2, each from one random projection.

    u [n, latent_dim] -> the same shape. `deviations` gives those of all values of decoded images [n, C, H, W].
    """
    with torch.inference_mode(False):
        u = u.clone().requires_grad_()
        image = decoder(u)
        projected = torch.autograd.grad(image, u, torch.randn_like(image) / deviations(image.detach()))[0]
    return projected.square()


def estimated_precisions(slopes: Tensor, variance: float | Tensor, beta: float) -> Tensor:
    """p, by slopes that are told in deviations; values vary by `variance` times these squared."""
    return 1 + slopes / (variance * max(beta, LEAST_BETA))


def fit_log_variances(features: Tensor, precisions: Tensor, images: int) -> tuple[Tensor, Tensor]:
    """The linear function of `features` [n, width] with the largest ELBO, weight and bias as nn.Linear has them.

    `precisions` [n, latent_dim] are estimates of p, of `images` different images; all in float64. The weights have a
    normal prior, under which a latent's log-variance varies by 1 from image to image. The loss is convex (a gamma
    regression with logarithmic link; McCullagh & Nelder 1989, chapter 8), and its Hessian where p exp(log_var) is 1 on
    average is the features' covariance: L-BFGS finds its minimum in coordinates where that is the identity.
    """
    middle = features.mean(0)
    centred = features - middle
    covariance = centred.T @ centred / len(centred)
    ridge = (2 * covariance.trace() / images).clamp(min=1e-12)
    factor = torch.linalg.cholesky(covariance + ridge * torch.eye(len(covariance)).to(covariance))

    bias = -precisions.mean(0).log()
    whitened = torch.zeros(len(covariance), len(bias)).to(bias)
    parameters = [bias.requires_grad_(), whitened.requires_grad_()]
    optimiser = torch.optim.LBFGS(parameters, max_iter=ITERATIONS, tolerance_change=1e-8, line_search_fn="strong_wolfe")

    def weights() -> Tensor:
        solution: Tensor = torch.linalg.solve_triangular(factor.T, whitened, upper=True)
        return solution

    def loss() -> Tensor:
        optimiser.zero_grad()
        weight = weights()
        log_var = centred @ weight + bias
        value = (precisions * log_var.exp() - log_var).mean(0).sum() + 0.5 * ridge * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    weight = weights().detach()
    return weight.T, bias.detach() - middle @ weight
