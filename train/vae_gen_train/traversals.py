"""A sheet that shows what every latent does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from vae_gen.figures import GAP, labelled_grid
from vae_gen.images import ByteImages, from_pillow, to_pillow
from vae_gen.latents import Latents
from vae_gen.paths import traversal
from vae_gen.png import save_figure
from vae_gen.sheets import enlarge, viewing_factor

from vae_gen_train.evaluation import decoded
from vae_gen_train.nets import VAE

LATENTS = 32  # rows at most
VALUES = np.linspace(-3, 3, 13)
LONGEST, COMFORTABLE = 96, 48  # pixels of a picture's longer side at most; of a small one's shorter side, about


def draw_traversals(vae: VAE, z: Latents, latent_kl: Sequence[float], device: torch.device, path: Path) -> None:
    """A PNG with a row for each latent, swept over VALUES while the others stay as in `z` [latent_dim].

    The latents are those of the largest KL divergence (`latent_kl`, nats), at most LATENTS, the largest on top.
    """
    latents = np.argsort(-np.asarray(latent_kl), kind="stable")[:LATENTS].tolist()
    cells = np.stack([_sweep(vae, z, latent, device) for latent in latents])
    rows = [f"z[{latent}]  KL {latent_kl[latent]:.2f}" for latent in latents]
    save_figure(labelled_grid(cells, GAP, rows, [f"{value:+.1f}" for value in VALUES]), path)


def _sweep(vae: VAE, z: Latents, latent: int, device: torch.device) -> ByteImages:
    """Pictures of a handy size, one for each of VALUES."""
    images = decoded(vae, traversal(z, latent, VALUES), device)
    height, width = images.shape[2:]
    if max(height, width) <= LONGEST:
        return enlarge(images, viewing_factor(height, width, COMFORTABLE))
    return np.stack([_smaller(image) for image in images])


def _smaller(image: ByteImages) -> ByteImages:
    picture = to_pillow(image)
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return from_pillow(picture)
