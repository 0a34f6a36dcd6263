"""The second stage of training: a flow learns where the trained VAE's latents lie, so that noise lands there.

First by maximum likelihood, on draws from the posteriors of the training images (Dai & Wipf 2019, "Diagnosing and
Enhancing VAE Models", section 4, fit a second model to the same draws). That covers every mode, but leaves bridges
between them, where the decoder shows what is no picture. Then also against a discriminator, which sees them; the
likelihood keeps a small weight, so that no mode is lost (Grover et al. 2018, "Flow-GAN", section 4.2). The VAE itself
does not change: the flow goes before the decoder, its inverse behind the encoder.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vae_gen.errors import VaeGenError
from vae_gen.images import ByteImages

from vae_gen_train.averaging import averaged_copy, update_average
from vae_gen_train.config import TrainConfig
from vae_gen_train.evaluation import evaluating, in_batches, seed_torch, to_float
from vae_gen_train.flow import Flow
from vae_gen_train.nets import VAE, Encoder
from vae_gen_train.objective import VARIANCE_FLOOR

STREAM = 2  # which of a seed's random streams the prior draws from; training has 0, evaluations have 1
BATCH = 512  # latents a step
LIKELIHOOD_SHARE = 0.45  # of the steps are by maximum likelihood alone
LIKELIHOOD_LR, ADVERSARIAL_LR, DISCRIMINATOR_LR = 2e-3, 3e-4, 6e-4
WARMUP = 100
LIKELIHOOD_WEIGHT = 0.1  # against a discriminator
PENALTY, PENALTY_EVERY = 0.2, 4  # of the discriminator's gradient at real latents; steps between
DISCRIMINATOR_WIDTH = 256
DECAY = 0.998  # of the averaged flow, a step
CLIP_NORM = 5.0
HEAD_VALUES = 100_000 * 784  # of pairs of pixels decoded to find the posteriors' variances, about: some seconds
HEAD_FEWEST = 256  # images, at least, that they are found from
HEAD_STEP = 0.1  # of u, between which the decoder's slope is taken
HEAD_RIDGE = 1e-3


class PriorEncoder(Encoder):
    """image [batch, C, H, W] -> (mean, log_var) of u, each [batch, latent_dim]: an encoder, then a flow's inverse."""

    def __init__(self, encoder: Encoder, flow: Flow, log_var: nn.Linear) -> None:
        nn.Module.__init__(self)  # its layers are there already
        self.features, self.mean, self.flow, self.log_var = encoder.features, encoder.mean, flow, log_var

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(image)
        mean, _ = self.flow.inverse(self.mean(features))
        return mean, self.log_var(features)


class PriorDecoder(nn.Module):
    """u [batch, latent_dim] -> image [batch, C, H, W]: a flow, then a decoder."""

    def __init__(self, flow: Flow, decoder: nn.Module) -> None:
        super().__init__()
        self.flow, self.decoder = flow, decoder

    def forward(self, u: Tensor) -> Tensor:
        z, _ = self.flow(u)
        image: Tensor = self.decoder(z)
        return image


class Prior(nn.Module):
    """What the second stage adds to a VAE: the flow, and a new head for the posterior's variance in its space."""

    def __init__(self, config: TrainConfig, features: int) -> None:
        super().__init__()
        self.flow = Flow(config.latent_dim, config.flow_couplings, config.flow_width)
        self.log_var = nn.Linear(features, config.latent_dim)
        nn.init.zeros_(self.log_var.weight)  # until it is fitted, a posterior is as wide as the prior
        nn.init.zeros_(self.log_var.bias)

    def around(self, vae: VAE) -> VAE:
        """`vae` with latents that are standard normal; the parts are shared, not copied."""
        return VAE(PriorEncoder(vae.encoder, self.flow, self.log_var), PriorDecoder(self.flow, vae.decoder))


@dataclass(frozen=True)
class Reading:
    """What one step measured: the flow's and the discriminator's losses in nats."""

    nll: float
    discriminator: float | None  # 2 log 2 = 1.386 where it cannot tell drawn latents from real ones


class PriorFit(nn.Module):
    """The state of the second stage, and its steps: each is a function of the state and of (seed, step)."""

    def __init__(self, vae: VAE, images: ByteImages, config: TrainConfig, device: torch.device) -> None:
        """Begin from the trained `vae`, which stays as it is, and all training images uint8 [n, C, H, W]."""
        super().__init__()
        self.config, self.device = config, device
        self._vae, self._images = [vae], images  # in a list: its weights are no part of this state
        mean, log_var = _posteriors(vae, images, device)
        self._mean, self._deviation = mean, torch.exp(0.5 * log_var)

        seed_torch(config.seed, STREAM, 0)
        self.prior = Prior(config, vae.encoder.mean.in_features).to(device)
        self.prior.flow.mean.copy_(mean.mean(0))
        variance = mean.var(0, correction=0) + self._deviation.square().mean(0)  # the law of total variance
        self.prior.flow.scale.copy_(variance.sqrt())
        self.averaged = averaged_copy(self.prior)
        self.discriminator = _discriminator(config.latent_dim).to(device)
        self.likelihood_steps = math.ceil(LIKELIHOOD_SHARE * config.prior_steps)
        flow = list(self.prior.flow.parameters())
        self.optimisers = {
            "likelihood": torch.optim.Adam(flow, LIKELIHOOD_LR, fused=True),
            "adversarial": torch.optim.Adam(flow, ADVERSARIAL_LR, betas=(0.0, 0.99), fused=True),
            "discriminator": torch.optim.Adam(
                self.discriminator.parameters(), DISCRIMINATOR_LR, betas=(0.0, 0.99), fused=True
            ),
        }

    @property
    def network(self) -> VAE:
        """The VAE with the averaged prior as it is now."""
        return self.averaged.around(self._vae[0])

    def take_step(self, step: int) -> Reading:
        """Step `step` of config.prior_steps, counted from 1. Raises VaeGenError if the losses are not finite."""
        seed_torch(self.config.seed, STREAM, step)
        z = self._draw()
        if step <= self.likelihood_steps:
            self._rates(step, self.likelihood_steps, likelihood=LIKELIHOOD_LR)
            nll, told = -self.prior.flow.log_prob(z).mean(), None
            self._descend("likelihood", nll)
        else:
            rates = {"adversarial": ADVERSARIAL_LR, "discriminator": DISCRIMINATOR_LR}
            self._rates(step - self.likelihood_steps, self.config.prior_steps - self.likelihood_steps, **rates)
            told = self._train_discriminator(step, z)
            nll = -self.prior.flow.log_prob(z).mean()
            fooled = F.softplus(-self.discriminator(self._standardised(self._generate()))).mean()
            self._descend("adversarial", fooled + LIKELIHOOD_WEIGHT * nll)
        update_average(self.averaged, self.prior, step, DECAY)
        reading = Reading(nll.item(), None if told is None else told.item())
        if not all(math.isfinite(value) for value in (reading.nll, reading.discriminator or 0)):
            raise VaeGenError(
                f"fitting the prior diverged at its step {step}: {reading}; the last checkpoint is from before. "
                "Begin again with another --seed, or with fewer --flow-couplings"
            )
        return reading

    def fit_head(self) -> None:
        """Give the averaged prior the variances of its posteriors: a linear function of the encoder's features.

        A Gaussian with independent latents has the largest ELBO where its precisions are the diagonal of the true
        posterior's, to second order: 1 + |d image / d u_i|^2 / sigma^2, with the decoder's calibrated variance
        sigma^2 (Laplace's method; Bishop 2006, sections 4.4 and 10.1.2). The slopes are differences over
        2 HEAD_STEP; the logarithms are fitted by least squares in float64, with a small ridge.
        """
        network = self.network
        values = self._images[0].size
        count = min(len(self._images), max(HEAD_FEWEST, HEAD_VALUES // (self.config.latent_dim * values)))
        chosen = self._images[np.arange(count) * len(self._images) // count]
        rows, slopes, error = [], [], 0.0
        with evaluating(network):
            for part in in_batches(chosen):
                image = to_float(part, self.device)
                features = network.encoder.features(image)
                u, _ = network.encoder(image)
                error += (network.decoder(u) - image).square().cpu().double().sum().item()
                steps = HEAD_STEP * torch.eye(u.shape[1], device=self.device)
                pairs = ((network.decoder(u + step), network.decoder(u - step)) for step in steps)
                squares = [((one - other) / (2 * HEAD_STEP)).square().flatten(1).sum(1) for one, other in pairs]
                rows.append(features.cpu().double())
                slopes.append(torch.stack(squares, 1).cpu().double())
        features = torch.cat(rows)
        variance = max(error / chosen.size, VARIANCE_FLOOR)
        target = -torch.log1p(torch.cat(slopes) / variance)
        middle, aim = features.mean(0), target.mean(0)
        features = features - middle
        gram = features.T @ features
        ridge = HEAD_RIDGE * gram.diagonal().mean().clamp(min=1e-6) * torch.eye(len(gram)).to(gram)
        weight = torch.linalg.solve(gram + ridge, features.T @ (target - aim)).T
        with torch.no_grad():
            self.averaged.log_var.weight.copy_(weight)
            self.averaged.log_var.bias.copy_(aim - weight @ middle)

    def _draw(self) -> Tensor:
        """Latents of random images, each a draw from its posterior: [BATCH, latent_dim]."""
        rows = torch.randint(len(self._mean), (BATCH,), device=self.device)
        return self._mean[rows] + self._deviation[rows] * torch.randn(BATCH, self._mean.shape[1], device=self.device)

    def _generate(self) -> Tensor:
        z: Tensor = self.prior.flow(torch.randn(BATCH, self._mean.shape[1], device=self.device))[0]
        return z

    def _standardised(self, z: Tensor) -> Tensor:
        return (z - self.prior.flow.mean) / self.prior.flow.scale

    def _train_discriminator(self, step: int, z: Tensor) -> Tensor:
        """One step of the discriminator; its loss (Goodfellow et al. 2014, eq. 1), before the penalty.

        The penalty is R1 (Mescheder et al. 2018, "Which Training Methods for GANs do actually Converge?", eq. 9),
        applied every few steps with as much more weight (Karras et al. 2020, "StyleGAN2", section 4.1).
        """
        with torch.no_grad():
            generated = self._standardised(self._generate())
        penalised = step % PENALTY_EVERY == 0
        real = self._standardised(z).requires_grad_(penalised)
        verdict = self.discriminator(real)
        loss = F.softplus(-verdict).mean() + F.softplus(self.discriminator(generated)).mean()
        penalty = torch.zeros_like(loss)
        if penalised:
            (slope,) = torch.autograd.grad(verdict.sum(), real, create_graph=True)
            penalty = PENALTY_EVERY * PENALTY / 2 * slope.square().sum(1).mean()
        self._descend("discriminator", loss + penalty)
        return loss.detach()

    def _descend(self, name: str, loss: Tensor) -> None:
        optimiser = self.optimisers[name]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(itertools.chain(*(group["params"] for group in optimiser.param_groups)), CLIP_NORM)
        optimiser.step()

    def _rates(self, step: int, steps: int, **highest: float) -> None:
        """Learning rates at `step` of `steps`: a short warm-up, then half a cosine to 0."""
        factor = min(1, step / WARMUP) * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
        for name, rate in highest.items():
            for group in self.optimisers[name].param_groups:
                group["lr"] = rate * factor


def _discriminator(latent_dim: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise((latent_dim, *[DISCRIMINATOR_WIDTH] * 3)):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(DISCRIMINATOR_WIDTH, 1))


def _posteriors(vae: VAE, images: ByteImages, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of every image's posterior, each [n, latent_dim]."""
    with evaluating(vae):
        parts = [vae.encoder(to_float(part, device)) for part in in_batches(images)]
    mean, log_var = (torch.cat(tensors).clone() for tensors in zip(*parts, strict=True))
    return mean, log_var
