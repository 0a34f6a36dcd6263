"""The discriminator: tells decoded noise from what it should look like, and so shows where samples are no pictures."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vae_gen.images import ImageShape

FILTERS, MOST_FILTERS, HIDDEN = 16, 128, 128
SMALLEST = 7  # pixels: convolutions halve an image until its shorter side has no more
PENALTY, PENALTY_EVERY = 0.1, 8  # of the gradient at real images; steps between


class Discriminator(nn.Sequential):
    """image [batch, C, H, W] -> logit [batch, 1], above 0 for what it takes for real."""

    def __init__(self, image_shape: ImageShape) -> None:
        channels, height, width = image_shape
        filters = [channels]
        layers: list[nn.Module] = []
        while min(height, width) > SMALLEST:
            filters.append(min(FILTERS << (len(filters) - 1), MOST_FILTERS))
            height, width = height // 2, width // 2
        for inputs, outputs in pairwise(filters):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        dense = nn.Linear(filters[-1] * height * width, HIDDEN)
        super().__init__(*layers, nn.Flatten(), dense, nn.LeakyReLU(0.2), nn.Linear(HIDDEN, 1))

    def loss(self, real: Tensor, generated: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """What it minimises at `step`, and the part of that without the penalty: cross-entropies, in nats.

        Goodfellow et al. 2014, "Generative Adversarial Nets", eq. 1. 2 log 2 = 1.386 where it can tell nothing. The
        penalty is R1 (Mescheder et al. 2018, "Which Training Methods for GANs do actually Converge?", eq. 9), every few
        steps with as much more weight (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN",
        section 3.1).
        """
        penalised = step % PENALTY_EVERY == 0
        real = real.detach().requires_grad_(penalised)
        verdict = self(real)
        told = F.softplus(-verdict).mean() + F.softplus(self(generated.detach())).mean()
        if not penalised:
            return told, told
        (slope,) = torch.autograd.grad(verdict.sum(), real, create_graph=True)
        return told + PENALTY_EVERY * PENALTY / 2 * slope.square().flatten(1).sum(1).mean(), told

    def fooled(self, generated: Tensor) -> Tensor:
        """What the generator minimises: the non-saturating loss (Goodfellow et al. 2014, section 3), in nats."""
        return F.softplus(-self(generated)).mean()
