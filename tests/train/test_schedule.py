from __future__ import annotations

import pytest
from vae_gen_train.config import TrainConfig
from vae_gen_train.schedule import kl_weight, learning_rate


def config(**changes: object) -> TrainConfig:
    return TrainConfig.from_preset("notebook", **{"steps": 10, "lr": 0.1} | changes)


def test_a_constant_rate_is_the_same_number_at_every_step() -> None:
    assert {learning_rate(config(), step) for step in range(1, 11)} == {0.1}
    assert {kl_weight(config(beta=3.0), step) for step in range(1, 11)} == {3.0}


def test_the_rate_rises_evenly_and_then_stays() -> None:
    found = [learning_rate(config(lr_warmup=4), step) for step in range(1, 7)]
    assert found == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_the_rate_falls_along_half_a_cosine_to_nothing() -> None:
    found = [learning_rate(config(lr_warmup=2, lr_schedule="cosine"), step) for step in range(1, 11)]
    # (1 + cos(k pi / 8)) / 2 for k = 0 ... 8
    halves = [1, 0.9619398, 0.8535534, 0.6913417, 0.5, 0.3086583, 0.1464466, 0.0380602, 0]
    assert found == pytest.approx([0.05, *(0.1 * half for half in halves)], abs=1e-8)
    assert learning_rate(config(lr_warmup=20, lr_schedule="cosine"), 10) == pytest.approx(0.05)


def test_the_weight_of_the_kl_divergence_rises_evenly_to_beta() -> None:
    found = [kl_weight(config(beta=2.0, kl_warmup=4), step) for step in range(1, 7)]
    assert found == pytest.approx([0.5, 1, 1.5, 2, 2, 2])
