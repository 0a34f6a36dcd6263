"""onnxruntime, as the package installs it."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from protocol import THREADS, Run, serve


def load(model: Path, shape: tuple[int, ...], names: list[str]) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    return lambda rows: session.run(names, {entry.name: rows})


serve("onnxruntime", "onnxruntime", load)
