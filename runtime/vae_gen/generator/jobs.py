"""A whole run: its parts made by this process, by several, or by an executor of any kind, and then its manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_gen.bundles import shipped
from vae_gen.cpus import usable_cpus
from vae_gen.errors import OutputError, UsageError, VaeGenError
from vae_gen.generator.generate import Progress, make_part, open_model
from vae_gen.generator.ledger import Ledger
from vae_gen.generator.parts import STATE, Part
from vae_gen.generator.runs import Record, Run
from vae_gen.png import encode_figure
from vae_gen.sheets import grid
from vae_gen.stores import Store, open_store

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

# Where images are encoded, threads of one process wait for each other (Python runs one at a time): two processes of one
# thread make PNG and tar a fifth faster than one of two. Arrays are written as they are decoded, and gain nothing.
THREADS_PER_WORKER = {"npy": 2, "idx": 2}
ENCODING_THREADS_PER_WORKER = 1
IMAGES_WORTH_PROCESSES = 100_000  # below, they take longer to start than they gain
HEEDING = 0.5  # seconds, after which Windows lets Ctrl-C interrupt who waits
EXECUTOR_QUEUE = 1000  # parts handed to an executor whose number of workers is not known

Made = tuple[Part, Record]


@dataclass(frozen=True)
class Crew:
    """Who makes the parts. By default all processors that this process may use take part."""

    threads: int | None = None  # of each worker
    workers: int | None = None  # processes; 1 is this one
    batch_size: int | None = None
    executor: Executor | None = None  # makes the parts instead of local processes, with `threads` threads each

    def __post_init__(self) -> None:
        for name in ("threads", "workers", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1")

    def workers_and_threads(self, format: str, images: int, parts: int) -> tuple[int, int]:
        """How many processes make so many images in so many parts, with how many threads each."""
        cpus = usable_cpus()
        threads = self.threads or THREADS_PER_WORKER.get(format, ENCODING_THREADS_PER_WORKER)
        wanted = cpus // threads if images >= IMAGES_WORTH_PROCESSES else 1
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
    beside = run.appears_at_once(store.is_new())  # a folder that is to appear at once must not be there for a lock
    with ExitStack() as locks:
        for name in ledger.names:
            locks.enter_context(store.lock(name, beside=beside))
        return _make_run(run, out, store, ledger, crew or Crew(), resume, overwrite, progress)


def _make_run(
    run: Run, out: str, store: Store, ledger: Ledger, crew: Crew, resume: bool, overwrite: bool, progress: Progress
) -> dict[str, Any]:
    if overwrite:  # where nothing can be decoded, what is there stays
        model = open_model(run.model, run.reading)
        model.decode_bytes(run.z(run.indices.slice(0, 1)))
    with _alone(run, store):
        complete = ledger.open(resume, overwrite)
    if complete is not None:
        progress(run.images)
        return complete
    records = ledger.done()
    done = sum(record["images"] for record in records.values())
    progress(done)
    crew_size = crew.workers_and_threads(run.format, run.images - done, len(run.parts) - len(records))
    missing = (part for part in run.parts if part.number not in records)
    try:
        if run.makes_grid and not run.file:
            _write_grid(store, run)  # before the rest, to look at
        for part, record in _make_parts(run, out, crew, *crew_size, missing, progress):
            records[part.number] = record
            done += record["images"]
        if run.makes_grid and run.file:
            _write_grid(store, run)  # it belongs to the file that is there now
    except BaseException as error:
        ledger.abandon()
        if isinstance(error, VaeGenError):
            left = f"{run.images - done:,} of {run.images:,} images are not made"
            way_out = "" if run.file or run.given else "; the same command with --resume makes them"
            error.args = (f"{error}\n{left}{way_out}",)
        raise
    with _alone(run, store):
        return ledger.close(records)


def _alone(run: Run, store: Store) -> AbstractContextManager[None]:
    """One shard at a time comes and goes."""
    return store.lock(STATE, wait=True) if run.shards > 1 else nullcontext()


def _make_parts(
    run: Run, out: str, crew: Crew, workers: int, threads: int, parts: Iterable[Part], progress: Progress
) -> Iterator[Made]:
    """The parts as they are done."""
    if crew.executor is None and workers == 1:
        for part in parts:
            yield part, make_part(run, out, part, threads, crew.batch_size, progress)
    elif crew.executor is None:
        from vae_gen.generator.workers import local_processes, make_part_in_worker  # multiprocessing is slow to import

        make = partial(make_part_in_worker, run, out, threads=threads, batch_size=crew.batch_size)
        with local_processes(workers) as pool:
            yield from _spread(pool, make, parts, 2 * workers, progress)
    else:
        run = run if run.model in shipped() else replace(run, model=_from_anywhere(run.model))
        make = partial(make_part, run, _from_anywhere(out), threads=crew.threads or 1, batch_size=crew.batch_size)
        yield from _spread(crew.executor, make, parts, EXECUTOR_QUEUE, progress)


def _from_anywhere(path: str) -> str:
    """A path that workers with other working directories understand; a URL is one already."""
    return path if "://" in path else str(Path(path).absolute())


def _spread(
    pool: Executor, make: Callable[[Part], Record], parts: Iterable[Part], at_once: int, progress: Progress
) -> Iterator[Made]:
    """The parts as the executor's workers are done with them, `at_once` of them handed out at a time."""
    from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, wait

    waiting = iter(parts)
    running: dict[Future[Record], Part] = {}
    try:
        while True:
            for part in islice(waiting, at_once - len(running)):
                running[pool.submit(make, part)] = part
            if not running:
                return
            for future in wait(running, HEEDING, return_when=FIRST_COMPLETED).done:
                part, record = running.pop(future), future.result()
                progress(part.indices.count)
                yield part, record
    except VaeGenError:
        raise
    except BrokenExecutor as error:
        raise OutputError(f"a worker process ended before its part was complete: {error}") from error
    except CancelledError as error:
        raise OutputError("a part was cancelled before it was complete; the cluster's scheduler has ended") from error
    except Exception as error:  # a cluster's own errors, or those of workers on which something is not installed
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise OutputError(f"a worker has not made its part: {cause}") from error
    finally:
        for future in running:
            future.cancel()


def _write_grid(store: Store, run: Run) -> None:
    """The contact sheet of the first images."""
    rows, columns = run.grid or (1, 1)
    model = open_model(run.model, run.reading)
    first = run.indices.slice(0, rows * columns)
    images = model.decode_bytes(run.z(first))
    with store.create(run.grid_name) as file:
        file.write(encode_figure(grid(images, min(columns, first.count))))
