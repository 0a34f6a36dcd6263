"""tract."""

from __future__ import annotations

from pathlib import Path

import tract
from protocol import Run, serve


def load(model: Path, shape: tuple[int, ...], names: list[str]) -> Run:
    # Outputs by their place: tract names them after their nodes, so that both of a Split's are called the same.
    runnable = tract.onnx().load(str(model)).into_model().into_runnable()
    return lambda rows: [value.to_numpy() for value in runnable.run([rows])]


serve("tract", "tract", load)
