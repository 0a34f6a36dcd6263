"""vae-gen sample"""

from __future__ import annotations

from pathlib import Path

import click

from vae_gen.cli import options
from vae_gen.defaults import MAX_TEMPERATURE


@click.command()
@click.option("--n", "count", type=int, default=16, show_default=True, help="How many images.")
@options.out_option("out", "A folder, or a file that ends in .npy.")
@options.model_option
@options.seed_option
@click.option("--start", type=int, default=0, show_default=True, help="Index of the first image.")
@click.option(
    "--temperature",
    type=options.NumberRange(0, MAX_TEMPERATURE),
    default=1.0,
    show_default=True,
    help="Factor on the latents.",
)
@options.format_option
@options.batch_size_option
@options.threads_option
@options.overwrite_option
@options.quiet_option
def sample(
    count: int,
    out: Path,
    model: str,
    seed: int | None,
    start: int,
    temperature: float,
    format: str | None,
    batch_size: int,
    threads: int | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Make new images from noise.

    Image 5 of a seed is always the same, whatever else is made with it.

    \b
    vae-gen sample --n 100 --out out/
    vae-gen sample --n 1000000 --out digits.npy --seed 1
    """
    from vae_gen.generate import drawn, generate
    from vae_gen.latents import fresh_seed
    from vae_gen.model import load
    from vae_gen.writers import format_of, open_writer

    network = load(model, threads)
    chosen = fresh_seed() if seed is None else seed
    latents = drawn(
        network.latent_dim, seed=chosen, start=start, count=count, batch_size=batch_size, temperature=temperature
    )
    if seed is None:
        options.say(f"seed {chosen}", quiet)
    with (
        open_writer(out, format or format_of(out), count, network.image_shape, overwrite) as writer,
        options.progress_bar(count, quiet) as progress,
    ):
        generate(network, latents, writer, start, progress)
    options.say(f"{options.count(count, 'image')} in {out}", quiet)
