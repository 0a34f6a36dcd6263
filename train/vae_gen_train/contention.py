"""Noticing that other processes keep this one's threads from running.

PyTorch's threads wait for each other after every operation, busily, hundreds of times a step. Where one of them has to
share its processor, the others wait with it: then fewer threads are several times as fast.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

INTERVAL = 20.0  # seconds between looks
CROWDED = 0.75  # of a processor for each thread; undisturbed, training on two took 0.9 to 0.99
PREEMPTIONS = 50.0  # a second; threads that wait for a disk have a small share, too, but are not sent away


@dataclass(frozen=True)
class Usage:
    """What a process has had so far."""

    wall: float  # seconds
    processors: float  # seconds of all of them together
    preemptions: int  # how often one of its threads had to make way


def usage() -> Usage | None:
    """Of this process; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    return Usage(time.monotonic(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw)


class Contention:
    """Looks now and then whether a process's threads get the processors that they need."""

    def __init__(self, threads: int) -> None:
        self.threads, self._before = threads, usage()

    def better_threads(self) -> int | None:
        """How many threads would have processors to themselves, once it is time to look and that is fewer."""
        now, before = usage(), self._before
        if now is None or before is None or now.wall - before.wall < INTERVAL:
            return None
        self._before = now
        seconds = now.wall - before.wall
        had = (now.processors - before.processors) / seconds
        if had >= CROWDED * self.threads or now.preemptions - before.preemptions < PREEMPTIONS * seconds:
            return None
        better = max(1, int(had))
        return better if better < self.threads else None
