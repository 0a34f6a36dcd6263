"""ncnn, from the files that its converter pnnx makes of the graph."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import ncnn
import numpy as np
from protocol import THREADS, Run, serve

WHOLE = 233  # as pnnx's own examples have it: no axis of a Mat is the batch, the rows are an axis like others


def load(model: Path, shape: tuple[int, ...], names: list[str]) -> Run:
    # The program beside the package, which is not imported: that asks for torch.
    pnnx = Path(importlib.util.find_spec("pnnx").origin).with_name("pnnx")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(model, f"{folder}/model.onnx")
        # Two shapes that differ in the rows say that their number is free.
        shapes = [f"inputshape{k}=[{','.join(map(str, (n, *shape[1:])))}]" for k, n in (("", 2), (2, 5))]
        subprocess.run([pnnx, "model.onnx", *shapes, "fp16=0"], check=True, cwd=folder, stdout=sys.stderr)
        net = ncnn.Net()
        net.opt.num_threads = THREADS
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        if net.load_param(f"{folder}/model.ncnn.param") or net.load_model(f"{folder}/model.ncnn.bin"):
            raise SystemExit("ncnn does not load what pnnx made")

    def run(rows):
        with net.create_extractor() as extractor:
            extractor.input("in0", ncnn.Mat(rows, batch_index=WHOLE))
            results = [extractor.extract(f"out{k}") for k in range(len(names))]
            if any(status for status, _ in results):
                raise SystemExit("ncnn does not run what pnnx made")
            return [np.array(output.numpy(batch_index=WHOLE)) for _, output in results]

    return run


serve("ncnn", "ncnn", load)
