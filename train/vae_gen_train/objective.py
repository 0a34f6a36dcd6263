"""What training minimises: one small function per term, each in nats per image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vae_gen_train.nets import VAE


@dataclass(frozen=True)
class Terms:
    """The terms of the objective for each image of a batch: [batch] each. Their sum is what is minimised."""

    reconstruction: Tensor
    kl: Tensor


def sse_objective(vae: VAE, image: Tensor) -> Terms:
    """The notebook's: the sum of squared errors after one draw from the posterior, and the KL divergence.

    Up to a constant, the negative ELBO (Kingma & Welling 2014, eq. 7) of a Gaussian decoder with variance 1/2.
    """
    output, mean, log_var = vae(image)
    return Terms(sum_of_squared_errors(output, image), kl_to_standard_normal(mean, log_var).sum(1))


def sum_of_squared_errors(reconstruction: Tensor, image: Tensor) -> Tensor:
    """Sum over pixels of (reconstruction - image)^2: [batch, C, H, W] twice -> [batch]."""
    return (reconstruction - image).square().flatten(1).sum(1)


def kl_to_standard_normal(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(0, 1)) of each latent: [batch, latent_dim] -> [batch, latent_dim].

    Kingma & Welling 2014, appendix B.
    """
    return -0.5 * (1 + log_var - mean.square() - log_var.exp())
