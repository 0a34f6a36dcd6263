"""vae-gen decode"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from vae_gen.cli import messages, options
from vae_gen.errors import UsageError
from vae_gen.reading import Reading


@click.command()
@click.option("--z", required=True, help="Numbers between commas, a .npy, .npz or .csv file, or - for lines on stdin.")
@options.destination_option
@options.model_option
@options.reading_options
@options.format_option
@options.batch_size_option
@options.threads_option
@options.overwrite_option
@options.quiet_option
def decode(
    z: str,
    out: str,
    model: str,
    reading: Reading,
    format: str | None,
    batch_size: int | None,
    threads: int | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Turn latents into images.

    \b
    vae-gen decode --model notebook --z "-1.0,1.0,0.1,0.3,-0.2,0.7,-0.5,-2.5" --out digit.png
    vae-gen encode digit.png | vae-gen decode --z - --out again.png
    """
    from vae_gen.files import real_path
    from vae_gen.generator.generate import open_model, plan
    from vae_gen.generator.indices import Indices
    from vae_gen.generator.jobs import Crew, make_run
    from vae_gen.generator.parts import latents_beside
    from vae_gen.generator.runs import Given
    from vae_gen.latent_files import read_latents
    from vae_gen.stores import open_store
    from vae_gen.stores.destinations import destination
    from vae_gen.stores.local import LocalStore

    place = destination(out, format)
    store = open_store(place.root)  # before anything is read
    if overwrite and isinstance(store, LocalStore) and os.path.exists(z):  # noqa: PTH110, Path.exists takes no long text
        source = real_path(Path(z))
        names = [place.file, *([latents_beside(place.file, place.format)] if place.file else [])]
        if any(real_path(Path(store.root, name)) in (source, *source.parents) for name in names):
            raise UsageError(f"--out {out} --overwrite may remove what is read: {z} is there; choose another --out")
    network = open_model(model, reading)
    latents = network.check_latents(read_latents(z, sys.stdin, network.latent_dim))
    everything = Indices.of(0, len(latents))
    given = Given(z, latents)
    run = plan(model, None, everything, reading=reading, format=place.format, file=place.file, given=given)
    with messages.progress_bar(len(latents), quiet) as progress:
        make_run(run, place.root, Crew(threads, 1, batch_size), overwrite=overwrite, progress=progress)
    messages.say(f"{messages.count(len(latents), 'image')} in {messages.place(out)}", quiet)
