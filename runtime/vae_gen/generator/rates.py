"""How many images a second this machine makes of a model, in each way of writing them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vae_gen.cpus import usable_cpus
from vae_gen.errors import OutputError
from vae_gen.generator.generate import decode_each, open_model, plan
from vae_gen.generator.indices import Indices
from vae_gen.generator.jobs import Crew, make_run
from vae_gen.generator.runs import Run
from vae_gen.reading import AS_STATED, Reading

DECODE = "decode"  # draw and decode, and write nothing
WAYS = (DECODE, "npy", "tar", "png")
FIRST_IMAGES = 128


@dataclass(frozen=True)
class Rate:
    """One way of making images, measured."""

    way: str  # "decode", or a format
    images: int  # in the longest run
    images_per_second: float
    bytes_per_image: float  # written


def measure(
    model: str, folder: Path | None, crew: Crew, seconds: float, reading: Reading = AS_STATED
) -> Iterator[Rate]:
    """The rate of each way, from runs that are doubled until one takes `seconds`.

    What is written goes into a directory within `folder`, or within the system's temporary one, and is removed.
    Raises BundleError if there is no such model, OutputError if nothing can be written.
    """
    for way in WAYS:
        images = FIRST_IMAGES
        while True:
            kind = "npy" if way == DECODE else way
            run = plan(model, 0, Indices.of(0, images), reading=reading, format=kind)
            elapsed, size = _decode(run, crew) if way == DECODE else _write(run, folder, crew)
            if elapsed >= seconds:
                break
            images *= 2
        yield Rate(way, images, images / elapsed, size / images)


def _decode(run: Run, crew: Crew) -> tuple[float, int]:
    network = open_model(run.model, run.reading)
    begin = time.perf_counter()
    threads = min(crew.threads or usable_cpus(), usable_cpus())
    for _ in decode_each(network, run, run.indices, crew.batch_size, threads):
        pass
    return time.perf_counter() - begin, 0


def _write(run: Run, folder: Path | None, crew: Crew) -> tuple[float, int]:
    try:
        with tempfile.TemporaryDirectory(prefix="vae-gen-", dir=folder) as place:
            if run.format != "png":
                run = replace(run, file=f"images.{run.format}")
            begin = time.perf_counter()
            make_run(run, place, crew)
            elapsed = time.perf_counter() - begin
            return elapsed, sum(path.stat().st_size for path in Path(place).rglob("*") if path.is_file())
    except OSError as error:
        raise OutputError(f"cannot write to {folder or tempfile.gettempdir()}: {error.strerror or error}") from error
