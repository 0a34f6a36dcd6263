"""vae-gen decode"""

from __future__ import annotations

import shlex
import sys

import click

from vae_gen.cli import options
from vae_gen.errors import OutputError
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
    vae-gen decode --model notebook --z "-1.0,1.0,0.1,0.3,-0.2,0.7,-0.5,-2.5" --out digit/
    vae-gen encode digit.png | vae-gen decode --z - --out again/
    """
    from vae_gen.cpus import usable_cpus
    from vae_gen.destinations import destination
    from vae_gen.generate import decode_each, open_model, plan, write_part
    from vae_gen.indices import Indices
    from vae_gen.latent_files import read_latents
    from vae_gen.ledger import clear, in_the_way
    from vae_gen.runs import write_json
    from vae_gen.stores import open_store

    place = destination(out, format)
    network = open_model(model, reading)
    latents = network.check_latents(read_latents(z, sys.stdin, network.latent_dim))
    store = open_store(place.root)
    everything = Indices.of(0, len(latents))
    run = plan(model, None, everything, reading=reading, format=place.format, file=place.file)
    if overwrite and not place.file:
        clear(store)
    elif not overwrite and in_the_way(store, [place.file] if place.file else []):
        raise OutputError(
            f"{store.path(place.file)} already holds something; choose another --out, or give --overwrite"
        )
    records = []
    with options.progress_bar(len(latents), quiet) as progress:
        for part in run.parts:
            batches = decode_each(
                network,
                lambda indices: latents[indices.ranges[0].start : indices.ranges[0].stop],
                part.indices,
                batch_size,
                threads or usable_cpus(),
            )
            records.append(write_part(store, run, part, batches, progress))
    words = ["vae-gen", "decode", "--model", model, *reading.as_options, "--z", z, "--format", place.format]
    write_json(store, run.manifest_name, run.manifest(records) | {"command": shlex.join(words)})
    options.say(f"{options.count(len(latents), 'image')} in {options.place(out)}", quiet)
