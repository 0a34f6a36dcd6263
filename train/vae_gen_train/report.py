"""What a run shows: reconstructions while it trains, and what the notebook drew on screen at its end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vae_gen.images import ByteImages, grid, to_float, to_uint8
from vae_gen_train.config import TrainConfig
from vae_gen_train.nets import VAE


def draw_reconstructions(vae: VAE, images: ByteImages, device: torch.device, path: Path, count: int = 10) -> None:
    """A PNG of the first `count` images over their reconstructions from the posterior mean."""
    inputs = images[:count]
    was_training = vae.training
    vae.eval()
    with torch.inference_mode():
        mean, _ = vae.encoder(torch.from_numpy(to_float(inputs)).to(device))
        outputs = to_uint8(vae.decoder(mean).float().cpu().numpy())
    vae.train(was_training)
    save_png(grid(np.concatenate([inputs, outputs]), columns=len(inputs)), path)


def save_png(image: ByteImages, path: Path) -> None:
    """One image [C, H, W], C = 1, 3 or 4, as a PNG."""
    pixels = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
    Image.fromarray(pixels).save(path)


def draw_report(run: Path, vae: VAE, device: torch.device, config: TrainConfig) -> None:
    """See below."""
