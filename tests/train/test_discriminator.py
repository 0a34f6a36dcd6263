"""The discriminator's loss, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from vae_gen_train import discriminator
from vae_gen_train.discriminator import Discriminator


def linear(slope: float, intercept: float = 0.0) -> Discriminator:
    """logit = slope * (the sum of an image's values) + intercept."""
    made = Discriminator((1, 2, 3))
    for _ in range(len(made)):
        made.pop(0)
    dense = nn.Linear(6, 1)
    nn.init.constant_(dense.weight, slope)
    nn.init.constant_(dense.bias, intercept)
    made.extend([nn.Flatten(), dense])
    return made


@pytest.mark.parametrize(
    ("shape", "halvings"), [((1, 28, 28), 2), ((3, 64, 48), 3), ((4, 7, 30), 0), ((1, 2, 3), 0), ((3, 256, 256), 6)]
)
def test_images_of_any_size_get_one_logit_each(shape: tuple[int, int, int], halvings: int) -> None:
    made = Discriminator(shape)
    assert made(torch.rand(2, *shape)).shape == (2, 1)
    assert sum(isinstance(layer, nn.Conv2d) for layer in made) == halvings


def test_who_cannot_tell_has_two_bits_of_loss_and_who_can_has_little() -> None:
    real, generated = torch.full((4, 1, 2, 3), 0.5), torch.full((4, 1, 2, 3), 0.25)
    for slope, intercept, expected in ((0.0, 0.0, 2 * math.log(2)), (4.0, -9.0, 2 * math.log1p(math.exp(-3)))):
        loss, told = linear(slope, intercept).loss(real, generated, step=1)
        assert told.item() == pytest.approx(expected, rel=1e-5)
        assert loss.item() == told.item()
    assert linear(4.0, -9.0).fooled(generated).item() == pytest.approx(math.log1p(math.exp(3)), rel=1e-5)


def test_the_penalty_is_of_the_gradient_at_training_images() -> None:
    real, generated = torch.rand(4, 1, 2, 3), torch.rand(4, 1, 2, 3)
    made = linear(0.7)
    loss, told = made.loss(real, generated, step=discriminator.PENALTY_EVERY)
    # R1 is weight / 2 times the mean squared norm of the gradient, here 6 values of 0.7 whatever the image.
    expected = discriminator.PENALTY_EVERY * discriminator.PENALTY / 2 * 6 * 0.7**2
    assert (loss - told).item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert made[1].weight.grad is not None  # through the gradient, too: d/dw of w^2
    assert (made[1].weight.grad[0, 0] - _slope_without_penalty(real, generated)).item() == pytest.approx(
        discriminator.PENALTY_EVERY * discriminator.PENALTY * 0.7, rel=1e-4
    )


def _slope_without_penalty(real: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
    made = linear(0.7)
    made.loss(real, generated, step=1)[0].backward()
    return made[1].weight.grad[0, 0]


def test_the_generator_learns_nothing_from_the_discriminators_loss() -> None:
    generated = torch.rand(4, 1, 2, 3, requires_grad=True)
    made = linear(0.7)
    made.loss(torch.rand(4, 1, 2, 3), generated, step=1)[0].backward()
    assert generated.grad is None
    made.fooled(generated).backward()
    assert (generated.grad < 0).all()  # brighter fools it
