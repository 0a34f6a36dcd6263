"""A whole run: its parts made by this process, by several, or by an executor of any kind, and then its manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any

from vae_gen.cpus import usable_cpus
from vae_gen.errors import OutputError, UsageError, VaeGenError
from vae_gen.generate import STATE, Progress, Record, draw_each, make_part, open_model
from vae_gen.images import grid
from vae_gen.ledger import Ledger
from vae_gen.parts import Part
from vae_gen.png import encode_png
from vae_gen.runs import Run
from vae_gen.stores import Store, open_store

THREADS_PER_WORKER = 2  # one that encodes keeps up with one or two that decode
IMAGES_WORTH_PROCESSES = 100_000  # below, they take longer to start than they gain
EXECUTOR_QUEUE = 1000  # parts handed to an executor whose number of workers is not known

Made = tuple[Part, Record]


@dataclass(frozen=True)
class Crew:
    """Who makes the parts. By default all processors that this process may use take part, and never more."""

    threads: int | None = None  # of each worker
    workers: int | None = None  # processes; 1 is this one
    batch_size: int | None = None
    executor: Executor | None = None  # makes the parts instead of local processes, with `threads` threads each

    def __post_init__(self) -> None:
        for name in ("threads", "workers", "batch_size"):
            if (getattr(self, name) or 1) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1")

    def workers_and_threads(self, images: int, parts: int) -> tuple[int, int]:
        """How many processes make so many images in so many parts, with how many threads each."""
        cpus = usable_cpus()
        wanted = cpus // (self.threads or THREADS_PER_WORKER) if images >= IMAGES_WORTH_PROCESSES else 1
        workers = max(1, min(self.workers or wanted, cpus, parts))
        return workers, max(1, min(self.threads or cpus, cpus // workers))


def make_run(
    run: Run,
    out: str,
    crew: Crew | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = lambda images: None,
) -> dict[str, Any]:
    """Make what is still missing of a run, or of its shard, in the store `out`; returns its manifest.

    `progress` is called with numbers of images as they are done, first with those that a resumed run has already.
    Raises OutputError if another process is making them, or if `out` holds something that neither `resume` nor
    `overwrite` allows for, and what the first part that failed raised, with the number of images that are missing.
    """
    store = open_store(out)
    ledger = Ledger(store, run)
    with store.lock(ledger.name):
        return _make_run(run, out, store, ledger, crew or Crew(), resume, overwrite, progress)


def _make_run(
    run: Run, out: str, store: Store, ledger: Ledger, crew: Crew, resume: bool, overwrite: bool, progress: Progress
) -> dict[str, Any]:
    with store.lock(STATE, wait=True):  # one shard at a time comes and goes
        complete = ledger.open(resume, overwrite)
    if complete is not None:
        progress(run.images)
        return complete
    if run.grid and run.shard == 0:
        _write_grid(store, run)
    records = ledger.done()
    done = sum(record["images"] for record in records.values())
    progress(done)
    crew_size = crew.workers_and_threads(run.images - done, len(run.parts) - len(records))
    missing = (part for part in run.parts if part.number not in records)
    try:
        for part, record in _make_parts(run, out, crew, *crew_size, missing, progress):
            records[part.number] = record
            done += record["images"]
    except VaeGenError as error:
        left = f"{run.images - done:,} of {run.images:,} images are not made"
        raise type(error)(
            f"{error}\n{left}{'' if run.file else '; the same command with --resume makes them'}"
        ) from error
    with store.lock(STATE, wait=True):
        return ledger.close(records)


def _make_parts(
    run: Run, out: str, crew: Crew, workers: int, threads: int, parts: Iterable[Part], progress: Progress
) -> Iterator[Made]:
    """The parts as they are done."""
    if crew.executor is None and workers == 1:
        for part in parts:
            yield part, make_part(run, out, part, threads, crew.batch_size, progress)
    elif crew.executor is None:
        from vae_gen.workers import local_processes, make_part_in_worker  # multiprocessing is slow to import

        with local_processes(workers) as pool:
            yield from _spread(pool, make_part_in_worker, run, out, parts, threads, crew.batch_size, 2 * workers)
    else:
        threads = crew.threads or 1
        yield from _spread(crew.executor, make_part, run, out, parts, threads, crew.batch_size, EXECUTOR_QUEUE)


def _spread(
    pool: Executor,
    make: Callable[[Run, str, Part, int, int | None], Record],
    run: Run,
    out: str,
    parts: Iterable[Part],
    threads: int,
    batch_size: int | None,
    at_once: int,
) -> Iterator[Made]:
    """The parts as the executor's workers are done with them, `at_once` of them handed out at a time."""
    waiting = iter(parts)
    running: dict[Future[Record], Part] = {}
    try:
        while True:
            for part in islice(waiting, at_once - len(running)):
                running[pool.submit(make, run, out, part, threads, batch_size)] = part
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except BrokenExecutor as error:
        raise OutputError(f"a worker process ended before its part was complete: {error}") from error
    finally:
        for future in running:
            future.cancel()


def _write_grid(store: Store, run: Run) -> None:
    """The contact sheet of the first images; it is there before the rest, to look at."""
    rows, columns = run.grid or (1, 1)
    model = open_model(run.model)
    first = run.indices.slice(0, rows * columns)
    images = model.decode_bytes(draw_each(run.seed, first, model.latent_dim, run.temperature))
    with store.create(run.grid_name) as file:
        file.write(encode_png(grid(images, min(columns, first.count))))
