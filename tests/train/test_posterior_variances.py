"""The variances of posteriors, against exact derivatives and scikit-learn's gamma regression."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import GammaRegressor
from torch import Tensor, nn
from vae_gen_train.objective import OBJECTIVES
from vae_gen_train.posterior_variances import estimated_precisions, estimated_slopes, fit_log_variances


def test_slopes_are_right_on_average() -> None:
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(3, 20), nn.Tanh(), nn.Linear(20, 30), nn.Unflatten(1, (2, 3, 5)))
    with torch.no_grad():
        decoder[0].weight[:, 0] *= 3
    u = 0.3 * torch.randn(3)
    jacobian = torch.autograd.functional.jacobian(lambda v: decoder(v[None])[0], u).square()
    own = torch.linspace(0.2, 3, 30).reshape(2, 3, 5)  # deviations of an image's values
    for deviations in (torch.ones(2, 3, 5), own):
        with torch.inference_mode():  # as evaluations are
            found = estimated_slopes(decoder, u.expand(40_000, 3), deviations.expand_as)
        exact = (jacobian / deviations.square()[..., None]).sum((0, 1, 2))
        assert exact.max() > 2 * exact.min()
        torch.testing.assert_close(found.mean(0), exact, rtol=0.05, atol=0)  # seven standard errors


@pytest.mark.parametrize("beta", [1.0, 0.25, 6.0])
@pytest.mark.parametrize(("objective", "variance"), [("sse", 0.5), ("gaussian", 0.07)])
def test_a_linear_decoder_s_posterior_is_exact(objective: str, variance: float, beta: float) -> None:
    """Against the joint normal distribution of latents and image, where the posterior's latents are independent."""
    torch.manual_seed(0)
    weight = torch.linalg.qr(torch.randn(8, 3, dtype=torch.float64))[0] * torch.tensor([0.2, 1.0, 3.0])
    image = weight @ weight.T + beta * variance * torch.eye(8)
    posterior = torch.eye(3) - weight.T @ torch.linalg.solve(image, weight)
    assert (posterior - posterior.diag().diag()).abs().max() < 1e-12

    slopes = (weight / OBJECTIVES[objective].deviations(torch.rand(8, 1))).square().sum(0)
    torch.testing.assert_close(
        1 / estimated_precisions(slopes, OBJECTIVES[objective].variance or 0.07, beta), posterior.diag()
    )


def test_without_a_weight_of_the_kl_divergence_variances_are_small_and_finite() -> None:
    found = estimated_precisions(torch.tensor([0.0, 2.0]), torch.tensor(0.5), 0.0)
    assert found[0] == 1
    assert 1e5 < found[1] < 1e9


def images_with_features(count: int, width: int) -> tuple[Tensor, Tensor]:
    """Features [count, width] of unlike scales, one of them always 0, and noise that is chi-square: [count, 2]."""
    torch.manual_seed(0)
    features = (torch.randn(count, width) @ torch.randn(width, width) * torch.linspace(0.1, 3, width)).double()
    features[:, 1] = 0
    return features + 5, torch.randn(count, 2).square().double()


def test_the_fit_is_a_gamma_regression_with_a_ridge() -> None:
    features, noise = images_with_features(300, 6)
    log_precision = 2 + torch.stack([0.1 * features[:, 0], -0.05 * features[:, 2] + 0.05 * features[:, 5]], 1)
    precisions = 1 + log_precision.exp() * noise
    weight, bias = fit_log_variances(features, precisions, images=100)
    ridge = 2 * features.var(0, correction=0).sum().item() / 100
    for latent in range(2):
        # Its half deviance is p exp(log_var) - log_var up to a constant, where its prediction is exp(-log_var).
        expected = GammaRegressor(alpha=ridge, solver="newton-cholesky", tol=1e-10, max_iter=1000)
        expected.fit(features.numpy(), precisions[:, latent].numpy())
        assert np.abs(expected.coef_).max() > 0.01
        np.testing.assert_allclose(-weight[latent], expected.coef_, rtol=0, atol=1e-5)
        np.testing.assert_allclose(-bias[latent], expected.intercept_, rtol=0, atol=1e-4)


def test_few_images_are_not_learned_by_heart() -> None:
    """Where the variances have nothing to do with the features, what is fitted is nearly constant."""
    features, _ = images_with_features(1000, 200)
    noise = torch.randn(64, 2, dtype=torch.float64).repeat_interleave(16, 0)  # of each image, several times the same
    seen = features[:64].repeat_interleave(16, 0)
    weight, bias = fit_log_variances(seen, torch.exp(3 + noise), images=64)
    log_var = features[64:] @ weight.T + bias
    assert (log_var - log_var.mean(0)).abs().mean() < 0.4
    torch.testing.assert_close(log_var.mean(0), torch.full((2,), -3.5).double(), rtol=0, atol=0.5)


def test_features_that_say_nothing_leave_a_constant() -> None:
    precisions = torch.tensor([[2.0, 8], [4, 0.5]]).double()
    weight, bias = fit_log_variances(torch.ones(2, 3).double(), precisions, images=2)
    torch.testing.assert_close(weight, torch.zeros(2, 3).double())
    torch.testing.assert_close(bias, -torch.tensor([3.0, 4.25]).double().log(), rtol=0, atol=1e-6)
