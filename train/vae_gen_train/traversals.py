"""A sheet that shows what every latent does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from vae_gen.files import whole_file
from vae_gen.images import MIDDLE_GREY, enlarge, to_pillow, to_uint8, viewing_factor
from vae_gen.latents import Latents
from vae_gen.paths import traversal

from vae_gen_train.evaluation import evaluating
from vae_gen_train.nets import VAE

LATENTS = 32  # rows at most
VALUES = np.linspace(-3, 3, 13)
LONGEST, COMFORTABLE = 96, 48  # pixels of a picture's longer side at most; of a small one's shorter side, about
GAP, TEXT, MARGIN = 2, 12, 100  # pixels: between pictures, of the text's height, and of the labels beside the rows


def draw_traversals(vae: VAE, z: Latents, latent_kl: Sequence[float], device: torch.device, path: Path) -> None:
    """A PNG with a row for each latent, swept over VALUES while the others stay as in `z` [latent_dim].

    The latents are those of the largest KL divergence (`latent_kl`, nats), at most LATENTS, the largest on top.
    """
    latents = np.argsort(-np.asarray(latent_kl), kind="stable")[:LATENTS].tolist()
    rows = [[_fit(picture) for picture in _sweep(vae, z, latent, device)] for latent in latents]
    width, height = rows[0][0].size
    top = TEXT + 2 * GAP
    size = (MARGIN + len(VALUES) * (width + GAP) + GAP, top + len(rows) * (height + GAP) + GAP)
    grey = (MIDDLE_GREY,) * 3
    sheet = Image.new("RGB" if rows[0][0].mode == "L" else rows[0][0].mode, size, grey)
    text, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for column, value in enumerate(VALUES):
        middle = MARGIN + GAP + column * (width + GAP) + width / 2
        text.text((middle, top / 2), f"{value:+.1f}", fill="white", font=font, anchor="mm")
    for row, (latent, pictures) in enumerate(zip(latents, rows, strict=True)):
        upper = top + GAP + row * (height + GAP)
        label = f"z[{latent}]  {latent_kl[latent]:.2f}"
        text.text((MARGIN - GAP, upper + height / 2), label, fill="white", font=font, anchor="rm")
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (MARGIN + GAP + column * (width + GAP), upper))
    with whole_file(path) as partial:
        sheet.save(partial, "PNG")


def _sweep(vae: VAE, z: Latents, latent: int, device: torch.device) -> list[Image.Image]:
    with evaluating(vae):
        images = vae.decoder(torch.from_numpy(traversal(z, latent, VALUES)).to(device)).float().cpu().numpy()
    images = to_uint8(images)
    height, width = images.shape[2:]
    return [to_pillow(image) for image in enlarge(images, viewing_factor(height, width, COMFORTABLE))]


def _fit(picture: Image.Image) -> Image.Image:
    """The picture, made smaller if it is large."""
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return picture
