"""A step against the discriminator in parts, one after the other: what it must not change, and what it is for."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from vae_gen_train.config import ADVERSARIAL_TARGETS
from vae_gen_train.discriminator import PENALTY_EVERY
from vae_gen_train.prior import PriorFit, Reading

from tests.train.test_prior import CPU, config, images_in_two_groups, vae_with_known_latents


def fit_in_parts(parts: int, **changes: object) -> PriorFit:
    torch.manual_seed(0)
    vae = vae_with_known_latents()
    vae.decoder = nn.Sequential(
        nn.Linear(2, 200), nn.ReLU(), nn.Linear(200, 6), nn.Sigmoid(), nn.Unflatten(1, (1, 2, 3))
    )
    settings = config(latent_dim=2, batch_size=48, accumulate=parts, adversarial_share=1.0, **changes)
    fit = PriorFit(vae, images_in_two_groups(), settings, CPU)
    with torch.no_grad():
        for parameter in fit.prior.flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        fit.prior.flow.scale *= 3  # so that some noise lies beyond the latents
    return fit


def first_step(parts: int, step: int, **changes: object) -> tuple[Reading, dict[str, Tensor]]:
    """What the step measures, and Adam's first moments after it, which are shares of the gradients."""
    fit = fit_in_parts(parts, **changes)
    reading = fit.take_step(step)
    moments = {
        f"{owner} {name}": fit.optimisers[owner].state[parameter]["exp_avg"]
        for owner in ("discriminator", "adversarial")
        for name, parameter in fit.named_parameters()
        if parameter in fit.optimisers[owner].state
    }
    return reading, moments


@pytest.mark.parametrize("parts", [3, 16])  # of 24 images: alike, and of one or two each
@pytest.mark.parametrize("step", [1, PENALTY_EVERY])
def test_parts_are_the_same_step_to_rounding(parts: int, step: int) -> None:
    for target in ADVERSARIAL_TARGETS:
        expected, moments = first_step(1, step, adversarial_target=target)
        found, others = first_step(parts, step, adversarial_target=target)
        assert others.keys() == moments.keys()
        assert any("decoder" in name for name in moments) == (target == "images")
        assert (found.nll, found.discriminator) == pytest.approx((expected.nll, expected.discriminator), rel=1e-5)
        for name, moment in moments.items():
            assert moment.any(), name
            assert torch.linalg.vector_norm(others[name] - moment) < 1e-4 * torch.linalg.vector_norm(moment), name


@contextmanager
def kept_for_gradients(fit: PriorFit) -> Iterator[list[int]]:
    """Within it, how many numbers besides weights were at most kept at a time for gradients, of `found[0]`."""
    now, most = 0, [0]
    weights = {parameter.untyped_storage().data_ptr() for parameter in fit.parameters()}

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    def gone(size: int) -> None:
        nonlocal now
        now -= size

    def pack(tensor: Tensor) -> Kept:
        nonlocal now
        kept = Kept(tensor)
        if tensor.untyped_storage().data_ptr() in weights:
            return kept
        now += tensor.numel()
        most[0] = max(most[0], now)
        weakref.finalize(kept, gone, tensor.numel())
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        yield most


def test_parts_take_less_memory() -> None:
    most = {}
    for parts in (1, 8):
        fit = fit_in_parts(parts)
        with kept_for_gradients(fit) as found:
            fit.take_step(1)
        most[parts] = found[0]
    # 48 pictures, each of 200 units of the decoder, and the flow's own.
    assert most[1] > 48 * 200
    assert most[8] < most[1] / 3
