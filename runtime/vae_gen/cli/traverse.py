"""vae-gen traverse"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vae_gen.cli import options
from vae_gen.reading import Reading


@click.command()
@click.option("--dim", type=int, help="The latent to sweep, counted from 0. Default: each of them, side by side.")
@options.out_option("traverse.gif", "A file that ends in .gif, .webp, .png or .apng; it is replaced.")
@options.model_option
@options.reading_options
@click.option("--z", help="Start from this point: numbers between commas, or a file of one point.")
@click.option("--picture", type=options.PathType(), help="Start from the latents of this picture.")
@options.invert_option
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
@click.option("--frames", type=click.IntRange(2, 10_000), default=60, show_default=True, help="How many values.")
@click.option("--fps", type=options.NumberRange(1, 50), default=20, show_default=True, help="Frames a second.")
@click.option(
    "--caption", is_flag=True, help="Write the latent's value above each frame; of several, also each one's number."
)
@click.option("--scale", type=click.IntRange(1, 64), help="Enlarge each pixel. Default: to about 224 pixels.")
@options.threads_option
@options.quiet_option
def traverse(
    dim: int | None,
    out: Path,
    model: str,
    reading: Reading,
    z: str | None,
    picture: Path | None,
    invert: bool,
    seed: int | None,
    low: float,
    high: float,
    frames: int,
    fps: float,
    caption: bool,
    scale: int | None,
    threads: int | None,
    quiet: bool,
) -> None:
    """Show what a latent does, as an animation.

    Latents are swept from --from to --to, one at a time. The others stay where they are: at a random point, which
    --seed decides, at --z, or where the encoder puts --picture.

    \b
    vae-gen traverse --dim 7
    vae-gen traverse --dim 3 --picture digit.png --caption --out digit.webp
    """
    import numpy as np

    from vae_gen.animate import check_format, labelled, save_animation, to_frames
    from vae_gen.errors import UsageError
    from vae_gen.images import enlarge, grid, viewing_factor
    from vae_gen.latent_files import read_latents
    from vae_gen.latents import check_dim, draw, fresh_seed, traversal
    from vae_gen.model import load
    from vae_gen.pictures import load_pictures

    if sum(choice is not None for choice in (z, picture, seed)) > 1:
        raise UsageError("--z, --picture and --seed each give a point to start from; give one of them")
    if invert and picture is None:
        raise UsageError("--invert is for --picture, which is not given")
    check_format(out)
    options.check_not_an_input(out, [picture] if picture else [])
    network = load(model, threads, **vars(reading))
    if dim is not None:
        check_dim(dim, network.latent_dim)
    if z is not None:
        points = network.check_latents(read_latents(z, sys.stdin, network.latent_dim))
    elif picture is not None:
        images = load_pictures([picture], network.image_shape, invert).images
        options.hint_at_invert(images, network, invert, quiet)
        points, _ = network.encode(images)
    else:
        if seed is None:
            seed = fresh_seed()
            options.say(f"seed {seed}", quiet)
        points = draw(seed, 0, 1, network.latent_dim)
    if len(points) != 1:
        raise UsageError(f"{len(points)} points to start from are given; a traversal starts from one")

    values = np.linspace(low, high, frames)
    dims = range(network.latent_dim) if dim is None else [dim]
    sweeps = np.stack([network.decode_bytes(traversal(points[0], each, values)) for each in dims], axis=1)
    sheet = sweeps[0, 0] if dim is not None else grid(sweeps[0])
    factor = scale or viewing_factor(*sheet.shape[-2:])
    tiles = enlarge(sweeps, factor)
    if dim is not None:
        pictures = tiles[:, 0]
    else:
        if caption:
            tiles = np.stack([labelled(tiles[:, each], str(each)) for each in dims], axis=1)
        pictures = np.stack([grid(cells, gap=2 * factor) for cells in tiles])
    name = "z" if dim is None else f"z[{dim}]"
    captions = [f"{name} = {value:+.2f}" for value in values] if caption else None
    save_animation(to_frames(pictures, captions), out, fps)
    options.say(f"{frames} frames in {out}", quiet)
