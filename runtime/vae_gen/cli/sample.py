"""vae-gen sample"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import click

from vae_gen.cli import messages, options
from vae_gen.defaults import MAX_TEMPERATURE
from vae_gen.errors import StoppedError, UsageError
from vae_gen.reading import Reading


def _parse_pair(separator: str, example: str) -> options.Callback:
    def parse(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
        if value is None:
            return None
        first, _, second = value.partition(separator)
        if not (first.isascii() and first.isdigit() and second.isascii() and second.isdigit()) or len(value) > 20:
            raise click.BadParameter(f"{value!r} should look like {example}", context, parameter)
        return int(first), int(second)

    return parse


@click.command()
@click.option("--n", "count", type=int, help="How many images.  [default: 16, or 1 if --out is a .png file]")
@options.destination_option
@options.model_option
@options.reading_options
@options.seed_option
@click.option("--start", type=int, help="Index of the first image.  [default: 0]")
@click.option("--indices", metavar="LIST", help="These images and no others: 5,17,100-120. Instead of --n and --start.")
@click.option(
    "--temperature",
    type=options.NumberRange(0, MAX_TEMPERATURE),
    default=1.0,
    show_default=True,
    help="Factor on the latents: below 1 more typical images, above 1 more varied ones.",
)
@options.format_option
@click.option("--shard-size", type=int, help="Images in each of several numbered files; for all formats but png.")
@click.option(
    "--shard",
    metavar="I/N",
    callback=_parse_pair("/", "0/8, the first of 8, to 7/8, the last"),
    help="Make one of several disjoint shards of the run: 0/8, 1/8, ... 7/8. Needs --seed.",
)
@click.option("--latents", is_flag=True, help="Write the latents too: float32 [n, latent_dim] in .npy files.")
@click.option(
    "--grid",
    metavar="ROWSxCOLUMNS",
    callback=_parse_pair("x", "10x10, rows x columns"),
    help="Write a contact sheet of the first images too, such as 10x10.",
)
@click.option("--no-metadata", is_flag=True, help="Write no seed, index and model into the images.")
@options.batch_size_option
@options.threads_each_option
@options.workers_option
@click.option("--dask", metavar="ADDRESS", help="Let the workers of this Dask cluster make the images.")
@click.option("--resume", is_flag=True, help="Go on with a run that was interrupted; what is complete is kept.")
@options.overwrite_option
@options.json_option
@options.quiet_option
def sample(
    count: int | None,
    out: str,
    model: str,
    reading: Reading,
    seed: int | None,
    start: int | None,
    indices: str | None,
    temperature: float,
    format: str | None,
    shard_size: int | None,
    shard: tuple[int, int] | None,
    latents: bool,
    grid: tuple[int, int] | None,
    no_metadata: bool,
    batch_size: int | None,
    threads: int | None,
    workers: int | None,
    dask: str | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make new images from noise.

    Image 5 of a seed is always the same, whatever else is made with it, in however many files, processes and shards.

    \b
    vae-gen sample --n 100 --out out/
    vae-gen sample --n 1000000 --out digits.npy --seed 1
    vae-gen sample --n 1000000 --out digits/ --seed 1 --format tar --shard-size 10000 --resume
    vae-gen sample --indices 5,17,100-120 --seed 1 --out again/ --grid 5x5
    """
    from vae_gen.generator.cluster import cluster
    from vae_gen.generator.generate import open_model, plan
    from vae_gen.generator.indices import Indices
    from vae_gen.generator.jobs import Crew, make_run
    from vae_gen.generator.ledger import seed_of
    from vae_gen.latents import fresh_seed
    from vae_gen.stores import open_store
    from vae_gen.stores.destinations import destination

    place = destination(out, format)
    if place.file and (shard_size or shard):
        raise UsageError(f"{out} names one file, and parts of a run need a folder; give a folder's name and --format")
    if shard_size and place.format == "png":
        raise UsageError("--shard-size is for files that hold many images; the format png has folders of 10,000")
    if indices is not None and (count is not None or start is not None):
        raise UsageError("--indices says which images; leave out --n and --start")
    if overwrite and (resume or shard):
        both = "--resume keeps what is there, and --overwrite removes it; give one of them"
        others = "--overwrite with --shard would remove what other shards have made; empty --out yourself"
        raise UsageError(both if resume else others)
    if shard and seed is None:
        raise UsageError("--shard needs --seed: with a fresh one each, the shards would be parts of different runs")
    if dask is not None and out == "-":
        raise UsageError("--dask has workers with a stdout of their own, where --out - would go; give a folder")
    if dask is not None and workers:
        raise UsageError("--dask has the workers that the cluster has; leave out --workers")
    if out == "-" and as_json:
        raise UsageError("--json prints on stdout, where --out - has the images; give one of them")
    beside = "--latents" if latents else "--grid" if grid else ""
    if out == "-" and beside:
        raise UsageError(f"{beside} writes a file beside the images, and --out - has no place for one; give a folder")
    crew = Crew(threads, workers, batch_size)
    store = open_store(place.root)
    open_model(model, reading)  # before anything is said or drawn
    if seed is None and resume:
        seed = seed_of(store, place.file)
    fresh = seed is None
    default_count = 1 if place.file and place.format == "png" else 16
    first, many = start or 0, default_count if count is None else count
    run = plan(
        model,
        fresh_seed() if seed is None else seed,
        Indices.of(first, many) if indices is None else Indices.parse(indices),
        reading=reading,
        temperature=temperature,
        format=place.format,
        part_size=shard_size,
        shard=shard[0] if shard else 0,
        shards=shard[1] if shard else 1,
        file=place.file,
        metadata=not no_metadata,
        latents=latents,
        grid=grid,
    )
    if fresh:
        messages.say(f"seed {run.seed}", quiet)
    with _stopped_by_hand(place.file), cluster(dask) as executor, messages.progress_bar(run.images, quiet) as progress:
        manifest = make_run(run, place.root, replace(crew, executor=executor), resume, overwrite, progress)
    if as_json:
        click.echo(json.dumps(manifest, indent=2))
    messages.say(f"{messages.count(run.images, 'image')} in {messages.place(out)}", quiet)


@contextmanager
def _stopped_by_hand(file: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        what = "nothing is kept of an unfinished file" if file else "what is complete stays; --resume makes the rest"
        raise StoppedError(what, signal.SIGINT) from error
