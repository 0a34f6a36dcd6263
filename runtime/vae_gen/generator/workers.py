"""Processes on this machine that make parts, and do not outlive the one that started them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from ctypes import c_bool
from multiprocessing import connection, parent_process
from multiprocessing.context import SpawnContext, SpawnProcess

from vae_gen.defaults import MAX_THREADS
from vae_gen.errors import VaeGenError
from vae_gen.generator.generate import make_part
from vae_gen.generator.parts import Part
from vae_gen.generator.runs import Record, Run

MOST = 61 if sys.platform == "win32" else MAX_THREADS  # processes that can be waited for

_told_to_stop: c_bool | None = None  # in a worker process, from its beginning


class Process(SpawnProcess):
    """A process that Ctrl-C, which reaches the whole group, does not end while it starts; the parent decides."""

    def start(self) -> None:
        if not hasattr(signal, "pthread_sigmask"):  # on Windows
            return super().start()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which it inherits
        try:
            return super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Context(SpawnContext):
    """Starts processes anew: a fork would copy locks that other threads hold."""

    Process = Process


@contextmanager
def local_processes(count: int) -> Iterator[Executor]:
    """An executor of `count` processes, or as many as there can be.

    If the block fails they are told to stop, and stop at their next batch.
    """
    context = Context()
    told_to_stop = context.RawValue(c_bool)  # without a lock, which a killed process may hold
    with ProcessPoolExecutor(min(count, MOST), context, initializer=_begin, initargs=(told_to_stop,)) as pool:
        try:
            yield pool
        except BaseException:
            told_to_stop.value = True
            pool.shutdown(cancel_futures=True)
            raise


def make_part_in_worker(run: Run, out: str, part: Part, threads: int, batch_size: int | None) -> Record:
    """generate.make_part, which stops after a batch when the process that started this one has given up."""
    return make_part(run, out, part, threads, batch_size, lambda images: stop_if_told())


def stop_if_told() -> None:
    """In a worker process: raise VaeGenError if the one that started it has given up."""
    if _told_to_stop is not None and _told_to_stop.value:
        raise VaeGenError("stopped")


def _begin(told_to_stop: c_bool) -> None:
    global _told_to_stop  # noqa: PLW0603, it is this process's own
    _told_to_stop = told_to_stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
