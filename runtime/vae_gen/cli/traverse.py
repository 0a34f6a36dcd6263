"""vae-gen traverse"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_gen.cli import messages, options
from vae_gen.reading import Reading

if TYPE_CHECKING:
    from vae_gen.data.tones import Tones
    from vae_gen.figures import Figure


@click.command()
@click.option("--dim", type=int, help="The latent to sweep, counted from 0. Default: each of them, side by side.")
@options.figure_options(
    "traverse",
    sheet="Make no animation, but a still PNG file: a row for each latent, with its values side by side.",
    frames="How many values.",
    caption="Write the latent's value above each frame, and each one's number if there are several; on a sheet, both "
    "beside its rows and columns.",
)
@options.model_option
@options.reading_options
@click.option("--z", help="Start from this point: numbers between commas, or a file of one point.")
@click.option("--picture", type=options.PathType(), help="Start from the latents of this picture.")
@options.tones_options
@options.seed_option
@click.option(
    "--from",
    "low",
    type=options.NumberRange(-100, 100),
    default=-3.0,
    show_default=True,
    help="First value of the latent.",
)
@click.option("--to", "high", type=options.NumberRange(-100, 100), default=3.0, show_default=True, help="Last value.")
@options.threads_option
@options.quiet_option
def traverse(
    dim: int | None,
    figure: Figure,
    model: str,
    reading: Reading,
    z: str | None,
    picture: Path | None,
    tones: Tones,
    seed: int | None,
    low: float,
    high: float,
    threads: int | None,
    quiet: bool,
) -> None:
    """Show what a latent does, as an animation or a sheet.

    Latents are swept from --from to --to, one at a time. The others stay where they are: at a random point, which
    --seed decides, at --z, or where the encoder puts --picture, scaled and cropped about its centre.

    \b
    vae-gen traverse --dim 7
    vae-gen traverse --dim 3 --picture digit.png --caption --out digit.webp
    vae-gen traverse --sheet --caption
    """
    import numpy as np

    from vae_gen.data.pictures import load_pictures
    from vae_gen.errors import UsageError
    from vae_gen.latent_files import read_latents
    from vae_gen.latents import draw, fresh_seed
    from vae_gen.model import load
    from vae_gen.paths import check_dim, traversal

    if sum(choice is not None for choice in (z, picture, seed)) > 1:
        raise UsageError("--z, --picture and --seed each give a point to start from; give one of them")
    if picture is None and (given := tones.as_options):
        raise UsageError(f"{given[0]} is for --picture, which is not given")
    network = load(model, threads, **vars(reading))
    if dim is not None:
        check_dim(dim, network.latent_dim)
    if z is not None:
        points = network.check_latents(read_latents(z, sys.stdin, network.latent_dim))
    elif picture is not None:
        loaded = load_pictures([picture], network.image_shape, tones)
        options.check_not_an_input(figure.out, loaded.files)
        messages.tell_if_unfamiliar(loaded.images, network, tones, quiet)
        points, _ = network.encode(loaded.images)
    else:
        if seed is None:
            seed = fresh_seed()
            messages.say(f"seed {seed}", quiet)
        points = draw(seed, 0, 1, network.latent_dim)
    if len(points) != 1:
        raise UsageError(f"{len(points)} points to start from are given; a traversal starts from one")

    values = np.linspace(low, high, figure.frames)
    dims = range(network.latent_dim) if dim is None else [dim]
    sweeps = np.stack([network.decode_bytes(traversal(points[0], each, values)) for each in dims])
    texts = [f"{value:+.2f}" for value in values]
    if figure.sheet:
        figure.save_sheet(sweeps, [f"z[{each}]" for each in dims], texts)
        messages.say(f"{messages.count(len(sweeps), 'row')} of {figure.frames} images in {figure.out}", quiet)
    else:
        name = "z" if dim is None else f"z[{dim}]"
        captions = [f"{name} = {text}" for text in texts]
        figure.save_animation(sweeps.swapaxes(0, 1), captions, [str(each) for each in dims])
        messages.say(f"{figure.frames} frames in {figure.out}", quiet)
