"""The second stage of training: noise learns to become pictures.

A flow learns where the trained VAE's latents lie: first by maximum likelihood, on draws from the posteriors of the
training images (Dai & Wipf 2019, "Diagnosing and Enhancing VAE Models", section 4, fit a second model to the same
draws). That covers every mode, but leaves bridges between them, where the decoder shows what is no picture. Then the
flow and the decoder learn together, against a discriminator that sees images: the decoder to show pictures wherever
noise may land and still to reconstruct (Larsen et al. 2016, "Autoencoding beyond pixels using a learned similarity
metric", add such a discriminator to a VAE), the flow to land where it can, with some likelihood, so that no mode is
lost (Grover et al. 2018, "Flow-GAN", section 4.2). Another discriminator sees latents, where a bridge is told by far
fewer numbers (Makhzani et al. 2016, "Adversarial Autoencoders", have one behind an encoder): the flow learns against
both. The encoder does not change: the flow goes before the decoder, its inverse behind the encoder.

Beyond the latents of all images the decoder's pixels are all black or white, and what saturates teaches nothing: noise
that a step of the flow has thrown there would stay. So the flow also learns how far beyond them it lands. Its inverse
throws latents of no image far beyond all noise, by 100,000 deviations, where float32 has no digits left to come back
by; pictures of another kind have such latents. So it also learns how far it throws what lies around those of images.

Where reconstructions are much softer than images, the discriminator would tell all that is decoded by that alone. There
it compares decoded noise with decoded draws from the posteriors, and the flow learns alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from vae_gen.errors import VaeGenError
from vae_gen.images import ByteImages

from vae_gen_train.averaging import averaged_copy, update_average
from vae_gen_train.config import TrainConfig
from vae_gen_train.devices import memory_format, to_float
from vae_gen_train.discriminator import Discriminator
from vae_gen_train.distributed import ALONE, World
from vae_gen_train.evaluation import posteriors
from vae_gen_train.flow import Flow, log_density
from vae_gen_train.nets import VAE, Encoder
from vae_gen_train.objective import calibrated_variance, sum_of_squared_errors, valued_at
from vae_gen_train.posterior_variances import Seen, posterior_variances
from vae_gen_train.random_streams import Stream, seed_torch

BATCH = 512  # latents a step of maximum likelihood, of all processes together
LIKELIHOOD_LR, ADVERSARIAL_LR, DISCRIMINATOR_LR = 2e-3, 8e-4, 1.6e-3
WARMUP = 100
ERROR_WEIGHT = 12.5  # of the root of the mean squared error, beside the discriminator's nats
BEYOND_WEIGHT = 10.0  # of latents beyond those of all images, beside the discriminator's nats
REACH = 3.0  # deviations of each image's posterior that count as its latents
ASTRAY_WEIGHT = 0.3  # of unknown latents beyond noise, beside minus log p(z) in nats a latent
NOISE_REACH = 5.0  # deviations of noise
UNKNOWN = 64  # latents a step that are no image's, of all processes together
DECAY = 0.998  # of the averaged flow and decoder, a step
CLIP_NORM = 5.0


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
    """What the second stage makes: the flow, a head for the posterior's variance in its space, a better decoder."""

    def __init__(self, config: TrainConfig, vae: VAE) -> None:
        """Begin with a flow that does nothing and a copy of the decoder of `vae`."""
        super().__init__()
        self.flow = Flow(config.latent_dim, config.flow_couplings, config.flow_width)
        self.decoder = copy.deepcopy(vae.decoder).requires_grad_(config.adversarial_target == "images").eval()
        self.log_var = nn.Linear(vae.encoder.mean.in_features, config.latent_dim)
        nn.init.zeros_(self.log_var.weight)  # until it is fitted, a posterior is as wide as the prior
        nn.init.zeros_(self.log_var.bias)

    def around(self, vae: VAE) -> VAE:
        """`vae` with latents that are standard normal and this decoder; the parts are shared, not copied."""
        return VAE(PriorEncoder(vae.encoder, self.flow, self.log_var), PriorDecoder(self.flow, self.decoder))


def has_variances(vae: VAE) -> bool:
    """Whether `vae`, with its prior around it, knows its posteriors' variances; until then they are all 1."""
    return bool(vae.encoder.log_var.bias.any())


@dataclass(frozen=True)
class Reading:
    """What one step measured: the flow's and the discriminator's losses in nats."""

    nll: float
    discriminator: float | None  # that of images; 2 log 2 = 1.386 where it cannot tell decoded noise


@dataclass(frozen=True)
class Shown:
    """A part of a step against the discriminator: images [n, C, H, W], and what is decoded beside them."""

    share: float  # of this process's images in the step
    image: Tensor
    z: Tensor  # [n, latent_dim], draws from the images' posteriors
    landed: Tensor  # [n, latent_dim], where the flow throws noise
    reconstructed: Tensor  # decoded z
    generated: Tensor  # decoded noise


class PriorFit(nn.Module):
    """The state of the second stage, and its steps: each is a function of the state and of (seed, step).

    Of several processes each takes its share of every step, and all have the same state.
    """

    def __init__(
        self, vae: VAE, images: ByteImages, config: TrainConfig, device: torch.device, world: World = ALONE
    ) -> None:
        """Begin from the trained `vae`, which stays as it is, and all training images uint8 [n, C, H, W]."""
        super().__init__()
        self.config, self.device, self.world = config, device, world
        self._vae, self._images = [vae], images  # in a list: its weights are no part of this state
        mean, log_var = posteriors(vae, images, device)
        self._mean, self._deviation = mean, torch.exp(0.5 * log_var)

        reach = REACH * self._deviation
        self._lowest, self._highest = (mean - reach).amin(0), (mean + reach).amax(0)

        seed_torch(config.seed, Stream.PRIOR, 0)
        self.prior = Prior(config, vae).to(device)
        self.prior.flow.mean.copy_(mean.mean(0))
        variance = mean.var(0, correction=0) + self._deviation.square().mean(0)  # the law of total variance
        self.prior.flow.scale.copy_(variance.sqrt())
        self.averaged = averaged_copy(self.prior)
        kind = Discriminator.dense if config.network == "mlp" else Discriminator.convolutional
        self.discriminator = kind(images.shape[1:]).to(device)
        self.discriminator.to(memory_format=memory_format(device))  # type: ignore[call-overload]
        self.latent_discriminator = Discriminator.of_latents(config.latent_dim).to(device)
        self.decoder_learns = config.adversarial_target == "images"
        # Images that a process has in a step against the discriminator. As many are generated: together what the VAE's
        # steps had in memory.
        self._images_a_step = max(1, config.batch_size // (2 * world.size))
        self.likelihood_steps = config.prior_steps - math.floor(config.adversarial_share * config.prior_steps)
        flow, decoder = self.prior.flow.parameters(), self.prior.decoder.parameters()
        of_images, of_latents = self.discriminator.parameters(), self.latent_discriminator.parameters()
        self.optimisers = {
            "likelihood": torch.optim.Adam(self.prior.flow.parameters(), fused=True),
            "adversarial": torch.optim.Adam([*flow, *decoder], betas=(0.0, 0.99), fused=True),
            "discriminator": torch.optim.Adam([*of_images, *of_latents], betas=(0.0, 0.99), fused=True),
        }

    @property
    def network(self) -> VAE:
        """The VAE with the averaged prior as it is now."""
        return self.averaged.around(self._vae[0])

    def take_step(self, step: int) -> Reading:
        """Step `step` of config.prior_steps, counted from 1. Raises VaeGenError if the losses are not finite."""
        seed_torch(self.config.seed, Stream.PRIOR, step)
        reading, norm = self._likelihood_step(step) if step <= self.likelihood_steps else self._adversarial_step(step)
        update_average(self.averaged, self.prior, step, DECAY)
        if not all(math.isfinite(value) for value in (reading.nll, reading.discriminator or 0, norm)):
            raise VaeGenError(
                f"fitting the prior diverged at its step {step}: {reading}, gradient norm {norm:g}. The last "
                "checkpoint is from before; begin again with another --seed, or with fewer --flow-couplings"
            )
        return reading

    def _likelihood_step(self, step: int) -> tuple[Reading, float]:
        self._rates(step, self.likelihood_steps, likelihood=LIKELIHOOD_LR)
        _, z = self._latents(math.ceil(BATCH / self.world.size))
        loss, nll = self._inverse_loss(z)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = self._descend("likelihood")
        return Reading(nll.item(), None), norm.item()

    def _adversarial_step(self, step: int) -> tuple[Reading, float]:
        """One step of the discriminators and one of the flow and the decoder, each in parts: see _shown."""
        rates = {"adversarial": ADVERSARIAL_LR, "discriminator": DISCRIMINATOR_LR}
        self._rates(step - self.likelihood_steps, self.config.prior_steps - self.likelihood_steps, **rates)
        drawn = (*self._latents(self._images_a_step), self._noise(self._images_a_step))
        count = min(self.config.accumulate, self._images_a_step)
        parts = [*zip(*(whole.tensor_split(count) for whole in drawn), strict=True)]
        error = self._error(parts) if self.decoder_learns and count > 1 else None

        told = torch.zeros((), device=self.device)
        for part in parts:
            shown = self._shown(*part)
            real = shown.image if self.decoder_learns else shown.reconstructed
            told_apart, fooling = self.discriminator.learn(real, shown.generated, step, shown.share)
            told = told + shown.share * told_apart
            loss = self._decoded_loss(shown, fooling, error) + self._landing_loss(shown, step)
            (shown.share * loss).backward()  # type: ignore[no-untyped-call]
        inverse_loss, nll = self._inverse_loss(drawn[1])
        inverse_loss.backward()  # type: ignore[no-untyped-call]
        norm = self._descend("discriminator") + self._descend("adversarial")
        return Reading(nll.item(), self.world.average(told).item()), norm.item()

    def _error(self, parts: Sequence[tuple[Tensor, ...]]) -> Tensor:
        """The mean squared error of all parts of a step, summed over an image, before one of them is propagated."""
        error = torch.zeros((), device=self.device)
        for rows, z, _ in parts:
            with torch.no_grad():
                error = error + sum_of_squared_errors(self.prior.decoder(z), self._shown_images(rows)).sum()
        return self.world.average(error / self._images_a_step)

    def _shown(self, rows: Tensor, z: Tensor, noise: Tensor) -> Shown:
        """What a part of this process's share of a step shows: of images, draws from their posteriors, and noise."""
        image = self._shown_images(rows)
        landed = self.prior.flow(noise)[0]
        if self.decoder_learns:
            generated, reconstructed = self.prior.decoder(torch.cat([landed, z])).chunk(2)
        else:
            generated = self.prior.decoder(landed)
            with torch.no_grad():
                reconstructed = self.prior.decoder(z)
        return Shown(len(z) / self._images_a_step, image, z, landed, reconstructed, generated)

    def _shown_images(self, rows: Tensor) -> Tensor:
        return to_float(self._images[rows.cpu().numpy()], self.device)

    def _decoded_loss(self, shown: Shown, fooling: Tensor, error: Tensor | None) -> Tensor:
        """What the flow and the decoder learn by what is decoded of a part; only its gradient has a meaning.

        `fooling` is the gradient at what is generated that fools the discriminator; `error` the whole step's mean
        squared error, where this part is not all of it. Its root has the same gradient on the whole, however sharp
        reconstructions are, until bytes cannot show their errors: it keeps its balance with the discriminator's,
        whatever the pictures and the objective.
        """
        loss = (shown.generated * fooling).sum()
        if self.decoder_learns:
            average = self.world.average if error is None else valued_at([error])
            mine = sum_of_squared_errors(shown.reconstructed, shown.image).mean()
            loss = loss + ERROR_WEIGHT * calibrated_variance(average(mine) / shown.image[0].numel()).sqrt()
        return loss

    def _landing_loss(self, shown: Shown, step: int) -> Tensor:
        """What the flow learns by where it throws a part's noise; only its gradient has a meaning.

        The discriminator of latents learns on the way, from what the part shows.
        """
        real, landed = self.prior.flow.standardised(shown.z), self.prior.flow.standardised(shown.landed)
        _, fooling = self.latent_discriminator.learn(real, landed, step, shown.share)
        return (landed * fooling).sum() + BEYOND_WEIGHT * beyond(shown.landed, self._lowest, self._highest).mean()

    def fit_head(self, validation: ByteImages, stopping: Callable[[], int]) -> None:
        """Give the averaged prior the variances of its posteriors, as posterior_variances.py finds them.

        Ends soon, without them, if `stopping()` is not 0 in one of the processes.
        """
        seed_torch(self.config.seed, Stream.PRIOR, self.config.prior_steps + 1, self.world.rank)
        seen = Seen(self.device, self.world, stopping)
        found = posterior_variances(self.network, self._images, validation, self.config, seen)
        if found is not None:
            with torch.no_grad():
                for parameter, values in zip(self.averaged.log_var.parameters(), found, strict=True):
                    parameter.copy_(values)
                bias = self.averaged.log_var.bias
                if not bias.any():  # of a decoder that shows the same whatever the latents: see has_variances
                    bias.fill_(torch.finfo(bias.dtype).tiny)

    def _latents(self, count: int) -> tuple[Tensor, Tensor]:
        """`count` random images for each process: rows of this one's, [count], and draws from their posteriors."""
        rows = self.world.share(torch.randint(len(self._mean), (count * self.world.size,), device=self.device))
        return rows, self._mean[rows] + self._deviation[rows] * self._noise(count)

    def _noise(self, count: int) -> Tensor:
        """Standard normal [count, latent_dim] for each process: this one's share of what one alone would draw."""
        whole = torch.randn(count * self.world.size, self._mean.shape[1], device=self.device)
        return self.world.share(whole)

    def _inverse_loss(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """What the flow learns by its inverse from latents z [n, latent_dim] of images; and the mean -log p(z) in nats.

        The first is the second in nats a latent, and how far the inverse throws unknown latents beyond noise.
        """
        known = len(z)
        u, log_det = self.prior.flow.inverse(torch.cat([z, self._unknown(z)]))
        nll = self.world.average(-log_density(u[:known], log_det[:known]).mean())
        edge = torch.full_like(self._lowest, NOISE_REACH)
        return nll / z.shape[1] + ASTRAY_WEIGHT * beyond(u[known:], -edge, edge).mean(), nll

    def _unknown(self, z: Tensor) -> Tensor:
        """Latents on the way from some of z [n, latent_dim] to anywhere between the lowest and the highest."""
        some = z[:: max(1, len(z) * self.world.size // UNKNOWN)]
        drawn = torch.rand(len(some) * self.world.size, 1 + z.shape[1], device=self.device)
        way, where = self.world.share(drawn).tensor_split([1], 1)
        return torch.lerp(some, self._lowest + (self._highest - self._lowest) * where, way)

    def _descend(self, name: str) -> Tensor:
        """Let that optimiser change its weights by their gradients, of all processes, and forget these: their norm."""
        optimiser = self.optimisers[name]
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        self.world.average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimiser.step()
        optimiser.zero_grad()
        return norm

    def _rates(self, step: int, steps: int, **highest: float) -> None:
        """Learning rates at `step` of `steps`: a short warm-up, then half a cosine to 0."""
        factor = min(1, step / WARMUP) * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
        for name, rate in highest.items():
            for group in self.optimisers[name].param_groups:
                group["lr"] = rate * factor


def beyond(z: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """How far latents [n, latent_dim] lie beyond `lowest` and `highest` [latent_dim]: [n], 0 for what lies between.

    The sum over latents of log(1 + d), d in widths of what lies between: however far one is, it does not take the whole
    step for itself.
    """
    distance = (z - highest).relu() + (lowest - z).relu()
    return (distance / (highest - lowest)).log1p().sum(1)
