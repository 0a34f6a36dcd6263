"""MNN, from a file that its own converter makes of the graph."""

from __future__ import annotations

import tempfile
from pathlib import Path

# The converter without its wrapper, MNN.tools.mnnconvert: that one runs `pip install` when it is imported.
import _tools
import MNN.expr
import MNN.nn
import numpy as np
from protocol import THREADS, Run, serve


def load(model: Path, shape: tuple[int, ...], names: list[str]) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        converted = f"{folder}/model.mnn"
        _tools.mnnconvert(["", "-f", "ONNX", "--bizCode", "", "--modelFile", str(model), "--MNNModel", converted])
        processor = MNN.nn.create_runtime_manager(({"backend": "CPU", "numThread": THREADS, "precision": "high"},))
        (entry,) = MNN.nn.load_module_from_file(converted, [], []).get_info()["inputNames"]
        module = MNN.nn.load_module_from_file(converted, [entry], names, runtime_manager=processor)

    def run(rows):
        outputs = module.onForward([MNN.expr.const(rows.ctypes.data, rows.shape, MNN.expr.NCHW)])
        return [np.array(MNN.expr.convert(output, MNN.expr.NCHW).read()) for output in outputs]

    return run


serve("MNN", "mnn", load)
