"""The engines, and how one is asked.

An engine is a program in tests/engines/programs, run as a process of its own in the environment that has the engine:

    PROGRAM REQUEST.json

The request is an object, with absolute paths:

    {"model": "x.onnx", "input": "in.npy", "outputs": "folder", "names": ["mean", "log_var"], "seconds": 0.0}

`input` is float32 of shape [n, ...], and its n rows are ONE batch of n. The program writes each of
the graph's outputs as folder/NAME.npy (C order) and prints one JSON object as the last line of stdout:

    {"engine": "onnxruntime", "version": "1.31.1", "rows_per_second": null}

`names` are the outputs' names in the graph's order, for engines that lose them. Where `seconds` is above 0,
`rows_per_second` is n over the time of the fastest run in about so many seconds of them, on two threads where the
engine lets one say. The exit status is 0, or another with the engine's own words on stderr.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from tests.engines.environments import BROWSER, HERE, INTERPRETER, NODE, OLDEST, OPENCV4, Interpreter
from tests.engines.environments import ENGINES as PACKAGES

Array = npt.NDArray[np.floating]
PROGRAMS = HERE / "programs"
TIMEOUT = 120  # seconds


@dataclass(frozen=True)
class Engine:
    """One row of the table.

    `note` says what a user must know, in Markdown, with the upstream issue where there is one.
    """

    name: str
    program: str
    environment: Interpreter
    package: str  # as the pins of the environment name it
    note: str = ""
    fixed_batch: bool = False  # the graph has to say how many rows it takes

    @property
    def version(self) -> str:
        return self.environment.pins()[self.package]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Answer:
    """What a program said."""

    engine: str
    version: str
    rows_per_second: float | None
    outputs: dict[str, Array]


class EngineError(Exception):
    """A program that failed, or did not keep to the protocol, in its own words."""


ONNXRUNTIME = Engine("onnxruntime", "ort.py", INTERPRETER, "onnxruntime")
ENGINES = [
    ONNXRUNTIME,
    Engine("onnxruntime", "ort.py", OLDEST, "onnxruntime", "the oldest that Python 3.11 can install"),
    Engine("onnxruntime-node", "onnxruntime_node.mjs", NODE, "onnxruntime-node"),
    Engine(
        "onnxruntime-web",
        "onnxruntime_web.mjs",
        BROWSER,
        "onnxruntime-web",
        "WebAssembly in Chromium; threads need a page that is "
        "[isolated](https://developer.mozilla.org/docs/Web/API/Window/crossOriginIsolated)",
    ),
    Engine("onnx reference evaluator", "onnx_reference.py", INTERPRETER, "onnx"),
    Engine(
        "OpenVINO",
        "openvino_cpu.py",
        PACKAGES,
        "openvino",
        'with `INFERENCE_PRECISION_HINT: "f32"`: it computes in '
        "[bfloat16](https://github.com/openvinotoolkit/openvino/issues/28032) where the processor can",
    ),
    Engine("OpenCV", "opencv.py", PACKAGES, "opencv-python-headless"),
    Engine(
        "OpenCV",
        "opencv.py",
        OPENCV4,
        "opencv-python-headless",
        "`batch` made a number first: [free ones](https://github.com/opencv/opencv/issues/26141) came with OpenCV 5",
        fixed_batch=True,
    ),
    Engine(
        "ncnn",
        "ncnn_pnnx.py",
        PACKAGES,
        "ncnn",
        "converted by pnnx, which [calls](https://github.com/Tencent/ncnn/issues/5713) inputs `in0`, outputs `out0`, "
        "`out1`",
    ),
    Engine("MNN", "mnn.py", PACKAGES, "MNN", "converted by its MNNConvert"),
    Engine("tract", "tract_onnx.py", PACKAGES, "tract", "names outputs after their nodes: take them by their place"),
    Engine("PyTorch by onnx2torch", "torch_again.py", PACKAGES, "onnx2torch"),
]


def ask(engine: Engine, model: Path, rows: Array, seconds: float = 0.0) -> Answer:
    """The outputs of a graph for a batch, and how fast the engine makes them.

    Raises:
        EngineError: the program failed, or left an output out, or took too long.
    """
    graph = onnx.load(model).graph
    names = [output.name for output in graph.output]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "outputs").mkdir()
        np.save(folder / "rows.npy", rows)
        if engine.fixed_batch:
            model = with_batch(model, len(rows), folder / model.name)
        request = {
            "model": str(model.absolute()),
            "input": str(folder / "rows.npy"),
            "outputs": str(folder / "outputs"),
            "names": names,
            "seconds": seconds,
        }
        (folder / "request.json").write_text(json.dumps(request))
        command = [*engine.environment.command(PROGRAMS / engine.program), str(folder / "request.json")]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "2")
        variables = {**os.environ, **threads, **engine.environment.variables()}
        try:
            ran = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"{engine} ran past {TIMEOUT} s") from error
        if ran.returncode != 0:
            raise EngineError(f"{engine} ended with {ran.returncode}:\n{ran.stderr[-4000:]}")
        # Engines print words of their own, some when they end.
        said = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith('{"engine":')))
        written = {path.stem for path in (folder / "outputs").glob("*.npy")}
        if written != set(names):
            raise EngineError(f"{engine} wrote {sorted(written)}, and the graph has {sorted(names)}")
        outputs = {name: np.load(folder / "outputs" / f"{name}.npy") for name in names}
    return Answer(said["engine"], said["version"], said["rows_per_second"], outputs)


def with_batch(model: Path, batch: int, to: Path) -> Path:
    """A copy of a graph whose free axis is a number."""
    graph = onnx.load(model)
    for value in [*graph.graph.input, *graph.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = batch
    del graph.graph.value_info[:]
    onnx.save(graph, to)
    return to
