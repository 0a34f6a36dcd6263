"""OpenVINO on the processor, in float32."""

from __future__ import annotations

from pathlib import Path

import openvino
from protocol import THREADS, Run, serve


def load(model: Path, shape: tuple[int, ...], names: list[str]) -> Run:
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": THREADS}
    compiled = openvino.Core().compile_model(str(model), "CPU", settings)
    outputs = [compiled.output(name) for name in names]

    def run(rows):
        results = compiled(rows)
        return [results[output] for output in outputs]

    return run


serve("OpenVINO", "openvino", load)
