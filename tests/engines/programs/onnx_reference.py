"""onnx's reference evaluator: numpy, one operator after the other."""

from __future__ import annotations

from pathlib import Path

from onnx.reference import ReferenceEvaluator
from protocol import Run, serve


def load(model: Path, shape: tuple[int, ...], names: list[str]) -> Run:
    evaluator = ReferenceEvaluator(str(model))
    (entry,) = evaluator.input_names
    return lambda rows: evaluator.run(names, {entry: rows})


serve("onnx reference evaluator", "onnx", load)
