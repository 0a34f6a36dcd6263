"""What the benchmarks share: they take turns, so that a machine busy with other things is busy for each of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

Key = TypeVar("Key")


def medians_in_turns(measures: Mapping[Key, Callable[[], float]], rounds: int) -> dict[Key, float]:
    """The median of what each measures in so many rounds, after one that warms up."""
    found: dict[Key, list[float]] = {key: [] for key in measures}
    for number in range(rounds + 1):
        for key, measure in measures.items():
            figure = measure()
            if number:  # the first round warms up
                found[key].append(figure)
    return {key: statistics.median(figures) for key, figures in found.items()}


def images_per_second(make: Callable[[], object], images: int, seconds: float) -> float:
    """The rate of `make`, which makes so many images a call, measured for so long."""
    started, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < seconds:
        make()
        done += images
    return done / elapsed
