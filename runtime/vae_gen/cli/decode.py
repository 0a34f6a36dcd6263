"""vae-gen decode"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vae_gen.cli import options


@click.command()
@click.option("--z", required=True, help="Numbers between commas, a .npy or .csv file, or - for lines on stdin.")
@options.out_option("out", "A folder, or a file that ends in .npy.")
@options.model_option
@options.format_option
@options.batch_size_option
@options.threads_option
@options.overwrite_option
@options.quiet_option
def decode(
    z: str,
    out: Path,
    model: str,
    format: str | None,
    batch_size: int,
    threads: int | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Turn latents into images.

    \b
    vae-gen decode --model notebook --z "-1.0,1.0,0.1,0.3,-0.2,0.7,-0.5,-2.5" --out digit/
    vae-gen encode digit.png | vae-gen decode --z - --out again/
    """
    from vae_gen.generate import chunks, generate
    from vae_gen.latent_files import read_latents
    from vae_gen.model import load
    from vae_gen.writers import format_of, open_writer

    network = load(model, threads)
    latents = network.check_latents(read_latents(z, sys.stdin))
    with (
        open_writer(out, format or format_of(out), len(latents), network.image_shape, overwrite) as writer,
        options.progress_bar(len(latents), quiet) as progress,
    ):
        generate(network, chunks(latents, batch_size), writer, progress=progress)
    options.say(f"{options.count(len(latents), 'image')} in {out}", quiet)
