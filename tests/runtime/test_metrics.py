from __future__ import annotations

import math

import numpy as np
import pytest
from vae_gen.evaluation.metrics import (
    active_units,
    calibrated_elbo,
    kl_to_standard_normal,
    peak_signal_to_noise_ratio,
    sum_of_squared_errors,
)


def test_squared_errors_are_summed_over_an_image() -> None:
    images = np.zeros((2, 3, 2, 2), np.float32)
    outputs = images + np.array([0.5, 0.25], np.float32)[:, None, None, None]
    np.testing.assert_array_equal(sum_of_squared_errors(outputs, images), [12 / 4, 12 / 16])


def test_kl_of_known_gaussians() -> None:
    mean = np.array([[0, 1, 0]], np.float32)
    log_var = np.array([[0, 0, math.log(4)]], np.float32)
    # KL(N(0, 4) || N(0, 1)) = (4 - 1 - log 4) / 2
    np.testing.assert_allclose(kl_to_standard_normal(mean, log_var), [[0, 0.5, (3 - math.log(4)) / 2]], atol=1e-7)


def test_psnr_is_in_decibels_and_finite() -> None:
    found = peak_signal_to_noise_ratio(np.array([1, 0.1, 0.001, 0]))
    np.testing.assert_allclose(found, [0, 10, 30, 10 * math.log10(12 * 255**2)])


def test_a_unit_is_active_if_its_mean_varies_by_more_than_a_hundredth() -> None:
    signs = np.tile([-1, 1], 50)[:, None]
    mean = 7 + signs * np.sqrt([0.009, 0.011, 4, 0]).astype(np.float32)
    assert active_units(mean.astype(np.float32)).tolist() == [False, True, True, False]


def test_the_elbo_is_that_of_a_gaussian_with_the_best_variance() -> None:
    rng = np.random.default_rng(0)
    errors = rng.normal(0, 0.3, (50, 12))
    found = calibrated_elbo(sse=float((errors**2).sum(axis=1).mean()), kl=2.5, values=12)

    def elbo(sigma: float) -> float:
        densities = np.exp(-(errors**2) / (2 * sigma**2)) / math.sqrt(2 * math.pi * sigma**2)
        return float(np.log(densities).sum(axis=1).mean()) - 2.5

    assert found.nats_per_image == pytest.approx(elbo(found.sigma))
    assert found.nats_per_image > max(elbo(found.sigma * 0.99), elbo(found.sigma * 1.01))
    assert found.bits_per_dimension == pytest.approx(-found.nats_per_image / 12 / 0.6931471805599453)
    in_bytes = calibrated_elbo(sse=float(((255 * errors) ** 2).sum(axis=1).mean()), kl=2.5, values=12)
    assert f"{in_bytes.bits_per_dimension - found.bits_per_dimension:.3f}" == "7.994"  # as the docs say


def test_the_elbo_of_perfect_images_is_finite() -> None:
    found = calibrated_elbo(sse=0, kl=1, values=4)
    assert found.sigma == pytest.approx(1 / 255 / math.sqrt(12))
    assert found.nats_per_image == pytest.approx(-4 * math.log(found.sigma * math.sqrt(2 * math.pi)) - 1)
