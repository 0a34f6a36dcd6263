"""What training minimises: one small function per term, each in nats per image."""

from __future__ import annotations

from torch import Tensor


def sum_of_squared_errors(reconstruction: Tensor, image: Tensor) -> Tensor:
    """Sum over pixels of (reconstruction - image)^2: [batch, C, H, W] twice -> [batch].

    Up to a constant, the negative log-likelihood of a Gaussian with variance 1/2.
    """
    return (reconstruction - image).square().flatten(1).sum(1)


def kl_to_standard_normal(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(0, 1)) of each latent: [batch, latent_dim] -> [batch, latent_dim].

    Kingma & Welling 2014, appendix B.
    """
    return -0.5 * (1 + log_var - mean.square() - log_var.exp())
