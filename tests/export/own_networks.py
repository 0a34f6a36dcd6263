"""Networks as other people write them, good ones and bad ones, for images 3x5x4 and 3 latents."""

from __future__ import annotations

import sys
from collections import namedtuple
from types import SimpleNamespace

import torch
from torch import Tensor, nn

LATENTS, SHAPE, PIXELS = 3, (3, 5, 4), 60


class Halves(nn.Module):
    """Sub-modules, with a BatchNorm whose statistics matter and left in training mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = Posterior()
        self.decoder = nn.Sequential(
            nn.Linear(LATENTS, 8),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Linear(8, PIXELS),
            nn.Sigmoid(),
            nn.Unflatten(1, SHAPE),
        )
        self.decoder[1].running_mean.uniform_(-1, 1)  # type: ignore[union-attr, operator]
        self.decoder[1].running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]


class Posterior(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Linear(PIXELS, LATENTS)
        self.spread = nn.Linear(PIXELS, LATENTS)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(image.flatten(1)), self.spread(image.flatten(1))


class Rows(nn.Module):
    """Methods, on rows of pixels; and sub-modules of the same names that are only a part of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = nn.Linear(PIXELS, 7)
        self.heads = nn.Linear(7, 2 * LATENTS)
        self.decoder = nn.Linear(LATENTS, PIXELS)

    def encode(self, rows: Tensor) -> list[Tensor]:
        return list(self.heads(torch.relu(self.encoder(rows))).chunk(2, 1))

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z).tanh()


class ByName(Halves):
    """A mapping, with the standard deviation in it; an image in an object."""

    def encode(self, image: Tensor) -> dict[str, Tensor]:
        mean, spread = self.encoder(image)
        return {"sigma": spread.exp(), "mu": mean}

    def decode(self, z: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.decoder(z), other=1)


class InPlace(Halves):
    """The same functions, by networks that overwrite what they are given."""

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder(image.mul_(2) / 2)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z.mul_(2) / 2)


class Tied(Halves):
    """One matrix under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder.spread.weight = self.encoder.mean.weight


class Grouped(Halves):
    """Transposed convolutions in 4 groups, of 4 * 3 * 4 * 4 and 12 * 1 * 2 * 1 weights, and one in one group."""

    def __init__(self) -> None:
        super().__init__()
        layers = [
            nn.ConvTranspose2d(4, 12, 4, groups=4),
            nn.Tanh(),
            nn.ConvTranspose2d(12, 4, (2, 1), groups=4),
            nn.Tanh(),
            nn.ConvTranspose2d(4, 3, 1),
        ]
        self.decoder = nn.Sequential(
            nn.Linear(LATENTS, 4), nn.Tanh(), nn.Unflatten(1, (4, 1, 1)), *layers, nn.Sigmoid()
        )


Distribution = namedtuple("Distribution", "z logvar loc")


class InATuple(Halves):
    def encode(self, image: Tensor) -> Distribution:
        mean, spread = self.encoder(image)
        return Distribution(mean, spread, mean)


def pair() -> tuple[nn.Module, nn.Module]:
    halves = Halves()
    return halves.encoder, halves.decoder


def decoder() -> nn.Module:
    return Halves().decoder


ready = Halves()


def pythae_vae() -> nn.Module:
    """The benchmark network for MNIST of the library pythae."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.nn.benchmarks.mnist import Decoder_Conv_AE_MNIST, Encoder_Conv_VAE_MNIST

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=4)
    return VAE(config, encoder=Encoder_Conv_VAE_MNIST(config), decoder=Decoder_Conv_AE_MNIST(config))


class Convolutional(nn.Module):
    """Made otherwise: three outputs and a deviation, latents [batch, latents, 1, 1], logits."""

    def __init__(self, latents: int) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.trunk = nn.Conv2d(3, 2 * latents, (5, 4))
        self.tail = nn.ConvTranspose2d(latents, 3, (5, 4))

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread = self.trunk(image).flatten(1).chunk(2, 1)
        return mean, spread.exp(), mean + torch.randn_like(mean)

    def generate(self, z: Tensor) -> Tensor:
        return self.tail(z)


# What follows cannot be exported.


def fails() -> nn.Module:
    raise ValueError("no such\nluck")


def leaves() -> nn.Module:
    sys.exit("usage: something else")


def needs_an_argument(width: int) -> nn.Module:
    return nn.Linear(width, width)


def number() -> int:
    return 7


class OnlyDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decoder = decoder()


class OneTensor(Halves):
    def encode(self, image: Tensor) -> Tensor:
        return torch.cat(self.encoder(image), 1)


class ThreeTensors(Halves):
    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        return (*self.encoder(image), image)


class NoImage(Halves):
    def decode(self, z: Tensor) -> dict[str, Tensor]:
        return {"pixels": self.decoder(z)}


class FourDimensional(Halves):
    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        mean, spread = self.encoder(image)
        return mean[..., None, None], spread[..., None, None]


class TwoChannels(Halves):
    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)[:, :2]


class Logits(Halves):
    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z).logit()


class NotFinite(Halves):
    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z) / 0


class Random(Halves):
    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        mean, spread = self.encoder(image)
        return mean + torch.randn_like(mean), spread


class OfTheBatch(Halves):
    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z - z.mean(0))


class OfTheFirst(Halves):
    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z - z[:1])


class OfThoseBefore(Halves):
    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z.cumsum(0))


class Decides(Halves):
    def decode(self, z: Tensor) -> Tensor:
        image = self.decoder(z)
        return image if image.sum() > -1 else 1 - image


class DecidesByCond(Halves):
    def decode(self, z: Tensor) -> Tensor:
        image = self.decoder(z)
        made: Tensor = torch.cond(z.abs().sum() > -1, lambda image: image.clone(), lambda image: 1 - image, (image,))
        return made


class NoSuchOperator(Halves):
    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z) * torch.linalg.svdvals(self.decoder(z)).sum().sign()


class FixedBatch(Halves):
    def decode(self, z: Tensor) -> Tensor:
        image = self.decoder(z)
        return image if len(z) in (1, 8) else image.reshape(2, *SHAPE)
