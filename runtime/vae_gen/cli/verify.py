"""vae-gen verify"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from vae_gen.cli import messages, options
from vae_gen.errors import DataError, UsageError

if TYPE_CHECKING:
    from vae_gen.generator.run_manifest import RunManifest
    from vae_gen.generator.verify import Report

SHOWN = 20  # problems, and commands
IMAGES_WORTH_PROCESSES = 20_000


@click.command()
@click.argument("out", callback=options.not_empty)
@click.option("--workers", type=options.PROCESSORS, help="Processes that read. Default: one a processor.")
@click.option(
    "--discard",
    is_flag=True,
    help="Remove the parts that are damaged, whole files or folders of pictures, so that sample can make them again.",
)
@options.json_option
@options.quiet_option
def verify(out: str, workers: int | None, discard: bool, as_json: bool, quiet: bool) -> None:
    """Check what sample or decode has written against its manifest.

    OUT is what --out was: every part must be there, of every shard, with the pixels that it was made with, and the
    contact sheet if there was one. The exit status is 1 if anything is wrong. sample --resume makes again what is
    gone, and leaves what is there.

    \b
    vae-gen verify out/
    vae-gen verify digits.npy --json
    vae-gen verify out/ --discard
    """
    from vae_gen.cpus import usable_cpus
    from vae_gen.generator import verify as check
    from vae_gen.generator.workers import local_processes
    from vae_gen.stores import open_store
    from vae_gen.stores.destinations import STDOUT, destination

    if out == STDOUT:
        raise UsageError("- is standard output, which cannot be read; give what --out of sample was")
    place = destination(out, None)
    store = open_store(place.root)
    manifests = check.read_manifests(store, place.file)
    images = sum(part.indices.count for manifest in manifests for part in manifest.parts)
    cpus = usable_cpus()
    count = min(workers or (cpus if images >= IMAGES_WORTH_PROCESSES else 1), cpus)
    with messages.progress_bar(images, quiet) as progress:
        if count == 1:
            report = check.verify(place.root, manifests, progress=progress)
        else:
            with local_processes(count) as pool:
                report = check.verify(place.root, manifests, pool, progress)
    if discard:
        check.discard(store, report)
    commands = report.commands(out, place.file, manifests)
    if as_json:
        content = {
            "out": out,
            "good": not report.problems,
            "images": report.images,
            "good_images": report.good,
            "parts": report.parts,
            "problems": [dataclasses.asdict(problem) for problem in report.problems],
            "commands": commands,
        }
        click.echo(json.dumps(content, indent=2))
    else:
        for problem in report.problems[:SHOWN]:
            click.echo(f"{out if problem.part == '.' else problem.part}: {problem.problem}")
        if len(report.problems) > SHOWN:
            click.echo(f"{len(report.problems) - SHOWN} more; --json lists them all")
    if report.problems:
        advice = _advice(report, place.file, discard, manifests[0])
        more = [f"{len(commands) - SHOWN:,} more; --json lists them"] if len(commands) > SHOWN else []
        raise DataError("\n".join([_summary(out, report), *advice, *commands[:SHOWN], *more]))
    parts = messages.count(report.parts, "part")
    messages.say(f"{messages.count(report.images, 'image')} in {parts}: as the manifest says", quiet)


def _summary(out: str, report: Report) -> str:
    bad = report.images - report.good
    found = messages.count(len(report.problems), "problem")
    return f"{out}: {found}" + (f"; {bad:,} of {report.images:,} images are in damaged parts" if bad else "")


def _advice(report: Report, file: str, discarded: bool, manifest: RunManifest) -> list[str]:
    stdin = ", with the same latents on standard input" if manifest.reads_stdin else ""
    if report.has_damage and not (discarded or file):
        return [f"Remove what is named, or let verify --discard do so, and make them again{stdin}:"]
    if report.damaged or report.missing_shards or report.without_sheet:
        return [f"{'Make them again' if report.has_damage else 'Make what is missing'}{stdin}:"]
    return ["Remove what is of no run, or of another, by hand"]
