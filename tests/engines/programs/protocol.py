"""What the Python programs share: `PROGRAM REQUEST.json`, as tests/engines/engines.py says."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

Run = Callable[[np.ndarray], Sequence[np.ndarray]]
THREADS = 2


def serve(engine: str, package: str, load: Callable[[Path, tuple[int, ...], list[str]], Run]) -> None:
    """Answer the request in sys.argv[1].

    `load` takes the file of a graph, the shape of its input and the names of its outputs, and returns what runs it:
    float32 of that shape to the outputs in that order.
    """
    request = json.loads(Path(sys.argv[1]).read_text())
    rows = np.load(request["input"])
    run = load(Path(request["model"]), rows.shape, request["names"])
    for name, values in zip(request["names"], run(rows), strict=True):
        np.save(Path(request["outputs"]) / f"{name}.npy", np.ascontiguousarray(values))
    rate = rows_per_second(lambda: run(rows), len(rows), request["seconds"]) if request["seconds"] > 0 else None
    print(json.dumps({"engine": engine, "version": version(package), "rows_per_second": rate}))


def rows_per_second(run: Callable[[], object], rows: int, seconds: float) -> float:
    """By the fastest run in so many seconds: slower ones were disturbed, by others or by their own beginning."""
    end, fastest = time.perf_counter() + seconds, float("inf")
    while (start := time.perf_counter()) < end:
        run()
        fastest = min(fastest, time.perf_counter() - start)
    return rows / fastest
