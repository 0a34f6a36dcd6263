"""vae-gen bench"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from vae_gen.cli import messages, options
from vae_gen.reading import Reading


@click.command()
@options.model_argument
@options.reading_options
@click.option(
    "--out",
    type=options.PathType(),
    help="A folder to write to; what is written is removed. Default: that for temporary files.",
)
@click.option(
    "--seconds",
    type=options.NumberRange(0, 3600),
    default=1.0,
    show_default=True,
    help="Each way runs with ever more images until it takes this long.",
)
@options.batch_size_option
@options.threads_each_option
@options.workers_option
@options.json_option
def bench(
    model: str,
    reading: Reading,
    out: Path | None,
    seconds: float,
    batch_size: int | None,
    threads: int | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Measure how many images a second this machine makes.

    decode draws and decodes and writes nothing; the others write as sample does. The numbers hold for this machine,
    this disk and this hour: run it again before you compare.

    \b
    vae-gen bench
    vae-gen bench bundles/mine --out /mnt/disk --json
    """
    from vae_gen.cpus import usable_cpus
    from vae_gen.generator.jobs import Crew
    from vae_gen.generator.rates import measure

    rows: list[dict[str, Any]] = []
    for rate in measure(model, out, Crew(threads, workers, batch_size), seconds, reading):
        if not rows and not as_json:
            click.echo(f"{model}, {messages.count(min(threads or usable_cpus(), usable_cpus()), 'thread')}")
            click.echo(f"{'':8}{'images/s':>10}{'us/image':>10}{'bytes/image':>13}")
        rows.append(dataclasses.asdict(rate))
        if not as_json:
            line = f"{rate.way:8}{rate.images_per_second:10,.0f}{1e6 / rate.images_per_second:10.1f}"
            click.echo(line + (f"{rate.bytes_per_image:13,.0f}" if rate.bytes_per_image else ""))
    if as_json:
        click.echo(json.dumps({"model": model, "rates": rows}, indent=2))
