from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence
from vae_gen import metrics
from vae_gen_train.objective import kl_to_standard_normal, sum_of_squared_errors


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
