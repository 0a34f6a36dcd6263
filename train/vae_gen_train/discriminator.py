"""The discriminators: what tells noise from what it should become, and so shows where samples are no pictures."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vae_gen.images import ImageShape

WIDTHS = 512, 256  # of dense layers
LATENT_WIDTHS = 256, 256, 256  # of those that see latents
FILTERS, MOST_FILTERS, HIDDEN = 16, 128, 128  # of convolutions, and the dense layer behind them
SMALLEST = 7  # pixels: convolutions halve an image until its shorter side has no more
SLOPE = 0.2  # of a unit that leaks
PENALTY, PENALTY_EVERY = 0.1, 8  # of the gradient at real images; steps between
MOST_SURE = -60.0  # a logit; of lower ones float32 has no gradient


class Discriminator(nn.Sequential):
    """image [batch, C, H, W] or latents [batch, latent_dim] -> logit [batch, 1], above 0 for what it takes for real."""

    @classmethod
    def dense(cls, image_shape: ImageShape) -> Discriminator:
        """Dense layers only, as `mlp` has them: the most that a CPU can make of its time."""
        return cls(*_dense(math.prod(image_shape), *WIDTHS))

    @classmethod
    def convolutional(cls, image_shape: ImageShape) -> Discriminator:
        """Of convolutions that halve an image, each with twice the filters of the one before it."""
        channels, height, width = image_shape
        filters = [channels]
        while min(height, width) > SMALLEST:
            filters.append(min(FILTERS << (len(filters) - 1), MOST_FILTERS))
            height, width = height // 2, width // 2
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(filters):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        return cls(*layers, *_dense(filters[-1] * height * width, HIDDEN))

    @classmethod
    def of_latents(cls, latent_dim: int) -> Discriminator:
        """Of latents whose mean and variance are about 0 and 1."""
        return cls(*_dense(latent_dim, *LATENT_WIDTHS))

    def learn(self, real: Tensor, generated: Tensor, step: int, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """Propagate `share` of its loss at `step` back to its weights; what it can tell, and what would fool it.

        The first is its loss in nats, without the penalty: cross-entropies (Goodfellow et al. 2014, "Generative
        Adversarial Nets", eq. 1). 2 log 2 = 1.386 where it can tell nothing. The penalty is R1 (Mescheder et al. 2018,
        "Which Training Methods for GANs do actually Converge?", eq. 9), every few steps with as much more weight
        (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", section 3.1).

        The second, of the shape of `generated`, is the gradient there of what a generator minimises, the non-saturating
        loss (Goodfellow et al. 2014, section 3). Of a verdict v that is softplus(-v), and the discriminator's is
        softplus(v): their gradients are that of v times -sigmoid(-v) and sigmoid(v), so that one way back gives both.
        """
        penalised = step % PENALTY_EVERY == 0
        real, generated = real.detach().requires_grad_(penalised), generated.detach().requires_grad_()
        on_real, on_generated = self(real), self(generated)
        told = F.softplus(-on_real).mean() + F.softplus(on_generated).mean()
        loss = told
        if penalised:
            (slope,) = torch.autograd.grad(on_real.sum(), real, create_graph=True)
            loss = told + PENALTY_EVERY * PENALTY / 2 * slope.square().flatten(1).sum(1).mean()
        (share * loss).backward()  # type: ignore[no-untyped-call]
        assert generated.grad is not None
        ratio = -torch.exp(-on_generated.detach().clamp(min=MOST_SURE))  # of the generator's factor to its own
        return told.detach(), generated.grad * (ratio / share).reshape(-1, *[1] * (generated.ndim - 1))


def _dense(*widths: int) -> list[nn.Module]:
    hidden = [layer for sizes in pairwise(widths) for layer in (nn.Linear(*sizes), nn.LeakyReLU(SLOPE))]
    return [nn.Flatten(), *hidden, nn.Linear(widths[-1], 1)]
