from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence
from vae_gen.evaluation import metrics
from vae_gen_train import config
from vae_gen_train.objective import (
    OBJECTIVES,
    calibrated_gaussian,
    cross_entropy,
    free_bits_kl,
    kl_to_standard_normal,
    measure,
    sum_of_squared_errors,
)


def test_kl_is_torchs_closed_form() -> None:
    mean, log_var = torch.randn(2, 5, 3, dtype=torch.float64)
    expected = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_standard_normal(mean, log_var), expected)
    assert kl_to_standard_normal(torch.zeros(1), torch.zeros(1)) == 0
    assert kl_to_standard_normal(torch.tensor(2.0), torch.tensor(0.0)).item() == pytest.approx(2.0)
    assert kl_to_standard_normal(torch.tensor(0.0), torch.tensor(math.log(4.0))).item() == pytest.approx(
        1.5 - math.log(2)
    )


def test_squared_errors_are_summed_over_each_image() -> None:
    image = torch.zeros(2, 1, 2, 3)
    other = torch.tensor([[[[1.0, 2, 0], [0, 0, 0.5]]], [[[0, 0, 0], [0, 0, -3.0]]]])
    assert sum_of_squared_errors(other, image).tolist() == [5.25, 9.0]


def test_the_runtime_measures_the_same_as_the_trainer() -> None:
    image, other = torch.rand(2, 4, 3, 5, 4)
    np.testing.assert_allclose(
        metrics.sum_of_squared_errors(other.numpy(), image.numpy()), sum_of_squared_errors(other, image), rtol=1e-5
    )
    mean, log_var = torch.randn(2, 5, 3)
    np.testing.assert_allclose(
        metrics.kl_to_standard_normal(mean.numpy(), log_var.numpy()), kl_to_standard_normal(mean, log_var), rtol=1e-4
    )


def test_cross_entropy_is_that_of_independent_pixels() -> None:
    output, image = (torch.rand(4, 3, 2, 5, dtype=torch.float64) for _ in range(2))
    p, x = output.numpy(), image.numpy()
    expected = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum((1, 2, 3))
    np.testing.assert_allclose(cross_entropy(output, image), expected)
    assert cross_entropy(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)).isfinite().all()
    output[1, 2, 0, 3] = torch.nan  # of a network that has diverged
    assert cross_entropy(output, image).isnan().tolist() == [False, True, False, False]


def test_the_calibrated_gaussian_is_the_best_of_all_variances() -> None:
    output, image = torch.rand(2, 6, 3, 4, 5, dtype=torch.float64)
    mean_error = sum_of_squared_errors(output, image).mean()
    found = calibrated_gaussian(mean_error, 60).item()

    def likelihood(variance: float) -> float:
        return -Normal(output, math.sqrt(variance)).log_prob(image).sum((1, 2, 3)).mean().item()

    best = ((output - image) ** 2).mean().item()
    assert found == pytest.approx(likelihood(best))
    assert all(likelihood(best * factor) > found for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2))


def test_the_gradient_of_the_calibrated_gaussian_is_that_of_a_constant_variance() -> None:
    error = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(calibrated_gaussian(error, 10), error)
    assert gradient.item() == pytest.approx(1 / (2 * 0.7))  # of error / (2 sigma^2)


def test_perfect_reconstructions_cost_a_finite_number() -> None:
    error = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    nats = calibrated_gaussian(error, 784)
    (gradient,) = torch.autograd.grad(nats, error)
    floor = (1 / 255) ** 2 / 12  # the variance of what rounding to a byte leaves
    assert nats.item() == pytest.approx(392 * math.log(2 * math.pi * floor))
    assert gradient.item() == pytest.approx(1 / (2 * floor))


def test_free_bits_bound_each_latents_mean_from_below() -> None:
    kl = torch.tensor([0.1, 0.7, 2.0], requires_grad=True)
    bounded = free_bits_kl(kl, 0.5)
    assert bounded.item() == pytest.approx(0.5 + 0.7 + 2.0)
    assert torch.autograd.grad(bounded, kl)[0].tolist() == [0, 1, 1]


def test_every_objective_tells_the_squared_errors_beside_its_own_terms() -> None:
    torch.manual_seed(0)
    output, image = torch.rand(2, 6, 1, 4, 5)
    mean, log_var = torch.randn(2, 6, 3)
    squares = ((output - image) ** 2).sum((1, 2, 3)).mean().item()
    kl = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0))
    expected = {
        "sse": squares,
        "bce": torch.nn.functional.binary_cross_entropy(output, image, reduction="sum").item() / 6,
        "gaussian": 10 * (math.log(2 * math.pi * squares / 20) + 1),
    }
    assert expected.keys() == OBJECTIVES.keys() == set(config.OBJECTIVES)
    for name, reconstruction in expected.items():
        terms = measure(OBJECTIVES[name], image, output, mean, log_var, 0.25, 1.5, lambda value: value)
        assert terms.reconstruction.item() == pytest.approx(reconstruction, rel=1e-5)
        assert terms.squared_error.item() == pytest.approx(squares, rel=1e-5)
        assert terms.kl.item() == pytest.approx(kl.sum(1).mean().item(), rel=1e-5)
        assert terms.penalty.item() == pytest.approx(0.25 * kl.mean(0).clamp(min=1.5).sum().item(), rel=1e-5)
        assert terms.total.item() == pytest.approx(reconstruction + terms.penalty.item(), rel=1e-5)


def test_variances_are_those_of_the_likelihood_that_an_objective_stands_for() -> None:
    """Their inverse is the second derivative of the term by the output, on average over images that it may be of."""
    p = torch.linspace(0.02, 0.98, 9, dtype=torch.float64).reshape(1, 1, 3, 3)
    mean_square = torch.tensor(0.03, dtype=torch.float64)

    def second(objective: str, x: torch.Tensor) -> torch.Tensor:
        output = p.clone().requires_grad_()
        error = OBJECTIVES[objective].error(output, x).sum()
        # Of `gaussian` with its variance held, which is optimal: half the error divided by that.
        nats = error / (2 * mean_square) if objective == "gaussian" else OBJECTIVES[objective].nats(error, 9)
        (slope,) = torch.autograd.grad(nats, output, create_graph=True)
        return torch.autograd.grad(slope.sum(), output)[0]

    for name, objective in OBJECTIVES.items():
        expected = p * second(name, torch.ones_like(p)) + (1 - p) * second(name, torch.zeros_like(p))
        of_all = mean_square if objective.variance is None else objective.variance
        variances = of_all * objective.deviations(p).square()
        torch.testing.assert_close(1 / variances, expected)


def test_outputs_that_are_sure_have_a_variance() -> None:
    output = torch.tensor([0.0, 1e-9, 1.0])
    torch.testing.assert_close(OBJECTIVES["bce"].deviations(output), torch.full((3,), math.sqrt(1 / 12) / 255))
