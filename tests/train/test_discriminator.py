"""The discriminator's loss, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from vae_gen_train import discriminator
from vae_gen_train.discriminator import Discriminator


def linear(slope: float, intercept: float = 0.0) -> Discriminator:
    """logit = slope * (the sum of an image's values) + intercept."""
    dense = nn.Linear(6, 1)
    nn.init.constant_(dense.weight, slope)
    nn.init.constant_(dense.bias, intercept)
    return Discriminator(nn.Flatten(), dense)


@pytest.mark.parametrize(
    ("shape", "halvings"), [((1, 28, 28), 2), ((3, 64, 48), 3), ((4, 7, 30), 0), ((1, 2, 3), 0), ((3, 256, 256), 6)]
)
def test_images_of_any_size_get_one_logit_each(shape: tuple[int, int, int], halvings: int) -> None:
    image = torch.rand(2, *shape)
    made = Discriminator.convolutional(shape)
    assert made(image).shape == (2, 1)
    assert sum(isinstance(layer, nn.Conv2d) for layer in made) == halvings
    assert Discriminator.dense(shape)(image).shape == (2, 1)
    assert Discriminator.of_latents(5)(torch.rand(2, 5)).shape == (2, 1)


def test_who_cannot_tell_has_two_bits_of_loss_and_who_can_has_little() -> None:
    real, generated = torch.full((4, 1, 2, 3), 0.5), torch.full((4, 1, 2, 3), 0.25)
    for slope, intercept, expected in ((0.0, 0.0, 2 * math.log(2)), (4.0, -9.0, 2 * math.log1p(math.exp(-3)))):
        told, _ = linear(slope, intercept).learn(real, generated, step=1)
        assert told.item() == pytest.approx(expected, rel=1e-5)


def test_the_penalty_is_of_the_gradient_at_training_images() -> None:
    real, generated = torch.rand(4, 1, 2, 3), torch.rand(4, 1, 2, 3)
    (without, told), (with_it, told_as_well) = (
        learned(linear(0.7), real, generated, step) for step in (1, discriminator.PENALTY_EVERY)
    )
    assert told_as_well == told
    # R1 is weight / 2 times the mean squared norm of the gradient: 6 values of w, whatever the image. Its derivative by
    # one of the six weights w = 0.7 is weight * w, since each value's gradient is one of them.
    expected = torch.full((1, 6), discriminator.PENALTY_EVERY * discriminator.PENALTY * 0.7)
    torch.testing.assert_close(with_it - without, expected, rtol=1e-4, atol=0)


def learned(made: Discriminator, real: torch.Tensor, generated: torch.Tensor, step: int) -> tuple[torch.Tensor, float]:
    """The gradient of the linear discriminator's weights after a step, and what it told."""
    told, _ = made.learn(real, generated, step)
    gradient = made[1].weight.grad
    assert gradient is not None
    return gradient, told.item()


@pytest.mark.parametrize("step", [1, discriminator.PENALTY_EVERY])
@pytest.mark.parametrize(
    ("make", "shape"), [(Discriminator.convolutional, (1, 20, 14)), (Discriminator.of_latents, (3,))]
)
def test_what_would_fool_it_is_the_gradient_of_the_generator_s_loss(
    make: Callable[[Any], Discriminator], shape: tuple[int, ...], step: int
) -> None:
    torch.manual_seed(0)
    made = make(shape if len(shape) > 1 else shape[0]).double()
    real, generated = torch.rand(2, 5, *shape, dtype=torch.float64)
    generated.requires_grad_()
    (expected,) = torch.autograd.grad(nn.functional.softplus(-made(generated)).mean(), generated)
    _, fooling = made.learn(real, generated, step, share=0.25)
    assert generated.grad is None  # the generator learns nothing from the discriminator's own loss
    torch.testing.assert_close(fooling, expected, rtol=1e-9, atol=0)


def test_its_own_gradient_is_a_share_of_its_loss() -> None:
    torch.manual_seed(0)
    made = Discriminator.dense((1, 8, 8))
    real, generated = torch.rand(2, 5, 1, 8, 8)
    loss = nn.functional.softplus(-made(real)).mean() + nn.functional.softplus(made(generated)).mean()
    expected = torch.autograd.grad(loss, [*made.parameters()])
    made.learn(real, generated, step=1, share=0.25)
    for parameter, gradient in zip(made.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, 0.25 * gradient)


@pytest.mark.parametrize("certainty", [50, 100, 1e6])
def test_a_discriminator_that_is_sure_leaves_a_finite_gradient(certainty: float) -> None:
    generated = torch.full((4, 1, 2, 3), 0.25)
    _, fooling = linear(1.0, -certainty - 1.5).learn(torch.rand(4, 1, 2, 3), generated, step=1)
    assert fooling.isfinite().all()
    if certainty == 50:  # -sigmoid(50) / 4 images
        torch.testing.assert_close(fooling, torch.full_like(fooling, -0.25))
