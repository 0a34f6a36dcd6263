"""What a network does on whole splits, without dropout."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from vae_gen.data.datasets import DataSet
from vae_gen.evaluation.components import evenly_spaced
from vae_gen.images import ByteImages, to_uint8
from vae_gen.latents import Latents

from vae_gen_train.config import TrainConfig
from vae_gen_train.devices import to_float
from vae_gen_train.nets import VAE
from vae_gen_train.objective import OBJECTIVES, kl_to_standard_normal, sum_of_squared_errors
from vae_gen_train.random_streams import Stream, seed_torch

DECODED = 10  # images at a time, which may be large
BATCH = 500  # images at most
BATCH_VALUES = BATCH * 64 * 64  # of large images fewer, so that their activations fit into memory
# Of images that latents are measured on at every checkpoint: all of MNIST's 5,000, 1,365 of 64x64 in colour, which take
# two processors two seconds.
LATENT_VALUES = 2**24


@dataclass(frozen=True)
class Losses:
    """Means over images.

    `reconstruction` and `kl` are in nats; `total` is the objective, as it is weighted. `sse`, the sum of squared
    errors, does not depend on the objective, so that runs with different ones compare.
    """

    reconstruction: float
    kl: float
    total: float
    sse: float


def in_batches(images: ByteImages) -> Iterator[ByteImages]:
    """[n, C, H, W] in parts that a network can take at a time."""
    size = max(1, min(BATCH, BATCH_VALUES // images[0].size))
    return (images[start : start + size] for start in range(0, len(images), size))


@contextmanager
def evaluating(vae: VAE) -> Iterator[None]:
    """Within it `vae` is in evaluation mode (no dropout) and keeps no gradients."""
    was_training = vae.training
    vae.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        vae.train(was_training)


def posteriors(vae: VAE, images: ByteImages, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of every image's posterior, each [n, latent_dim]."""
    with evaluating(vae):
        parts = [vae.encoder(to_float(part, device)) for part in in_batches(images)]
    mean, log_var = (torch.cat(tensors) for tensors in zip(*parts, strict=True))  # of which gradients may be asked
    return mean, log_var


def decoded(vae: VAE, z: Latents, device: torch.device) -> ByteImages:
    """Latents [n, latent_dim] -> images [n, C, H, W], as files hold them."""
    parts = np.array_split(z, math.ceil(len(z) / DECODED))
    with evaluating(vae):
        return np.concatenate(
            [to_uint8(vae.decoder(torch.from_numpy(part).to(device)).cpu().numpy()) for part in parts]
        )


def evaluate(vae: VAE, images: ByteImages, config: TrainConfig, device: torch.device) -> Losses:
    """Mean losses over `images`, with one draw from each posterior.

    The objective is the run's with its whole weight beta, without warm-up and free bits, so that evaluations of
    different steps compare; the variance of `gaussian` is the one that suits all of `images`.
    """
    objective = OBJECTIVES[config.objective]
    error = squared_error = kl = 0.0
    with evaluating(vae):
        for number, part in enumerate(in_batches(images)):
            seed_torch(config.seed, Stream.EVALUATIONS, number)
            image = to_float(part, device)
            output, mean, log_var = vae(image)
            error += _sum(objective.error(output, image))
            squared_error += _sum(sum_of_squared_errors(output, image))
            kl += _sum(kl_to_standard_normal(mean, log_var).sum(1))
    error, squared_error, kl = error / len(images), squared_error / len(images), kl / len(images)
    reconstruction = objective.nats(torch.tensor(error, dtype=torch.float64), images[0].size).item()
    return Losses(reconstruction, kl, reconstruction + config.beta * kl, squared_error)


def _sum(values: Tensor) -> float:
    return values.cpu().double().sum().item()


def evaluate_splits(vae: VAE, data: DataSet, config: TrainConfig, device: torch.device) -> dict[str, Losses]:
    """The losses on the validation images and, if there are any, on the test images."""
    splits = {"validation": data.validation, "test": data.test}
    return {name: evaluate(vae, images, config, device) for name, images in splits.items() if images is not None}


def latent_statistics(vae: VAE, images: ByteImages, device: torch.device) -> dict[str, list[float]]:
    """For each latent, of the aggregate posterior over `images`: its mean, its standard deviation, its mean KL.

    Of more images than have LATENT_VALUES values so many are taken, evenly spread.
    """
    some = images[evenly_spaced(len(images), max(1, LATENT_VALUES // images[0].size))]
    mean, log_var = (tensor.cpu().double() for tensor in posteriors(vae, some, device))
    variance = mean.var(0, correction=0) + log_var.exp().mean(0)  # the law of total variance
    kl = kl_to_standard_normal(mean, log_var).mean(0)
    return {"mean": mean.mean(0).tolist(), "std": variance.sqrt().tolist(), "kl": kl.tolist()}
