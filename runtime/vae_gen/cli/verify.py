"""vae-gen verify"""

from __future__ import annotations

import dataclasses
import json

import click

from vae_gen.cli import options
from vae_gen.errors import DataError

SHOWN = 20  # problems
IMAGES_WORTH_PROCESSES = 20_000


@click.command()
@click.argument("out")
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes that read. Default: one a processor.")
@options.json_option
@options.quiet_option
def verify(out: str, workers: int | None, as_json: bool, quiet: bool) -> None:
    """Check what sample has written against its manifest.

    OUT is what --out was: every part must be there, of every shard, with the pixels that it was made with. The exit
    status is 1 if anything is wrong.

    \b
    vae-gen verify out/
    vae-gen verify digits.npy --json
    """
    from vae_gen.cpus import usable_cpus
    from vae_gen.destinations import destination
    from vae_gen.verify import images_of, verify
    from vae_gen.workers import local_processes

    place = destination(out, None)
    images = images_of(place.root, place.file)
    count = min(workers or usable_cpus(), usable_cpus()) if images >= IMAGES_WORTH_PROCESSES else 1
    with options.progress_bar(images, quiet) as progress:
        if count == 1:
            report = verify(place.root, place.file, progress=progress)
        else:
            with local_processes(count) as pool:
                report = verify(place.root, place.file, pool, progress)
    if as_json:
        click.echo(json.dumps({"out": out, "good": not report.problems, **dataclasses.asdict(report)}, indent=2))
    else:
        for problem in report.problems[:SHOWN]:
            click.echo(problem)
        if len(report.problems) > SHOWN:
            click.echo(f"{len(report.problems) - SHOWN} more; --json lists them all")
    if report.problems:
        raise DataError(
            f"{out}: {options.count(len(report.problems), 'problem')}; {images - report.images:,} of {images:,} images "
            "are not as the manifest says; its command makes them again, with --indices only these"
        )
    options.say(
        f"{options.count(images, 'image')} in {options.count(report.parts, 'part')}: as the manifest says", quiet
    )
