"""Whether two graphs compute the same, asked of onnxruntime with random data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from vae_gen.errors import BundleError

# Before the import below, as in the runtime: importing this sets the switch against onnxruntime's telemetry.
from vae_gen.graph import SILENT

import onnxruntime  # isort: skip

Array = npt.NDArray[Any]

BATCH_SIZES = (1, 3, 8)
FREE_SIZE = 32  # of every other axis that is free
TOLERANCE = 1e-5  # of the largest magnitude
# What random values of a type are like: pictures and latents come as floats of about 1 or as bytes.
KINDS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
INTEGERS = {
    "tensor(bool)": np.bool_,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


def largest_difference(first: onnx.ModelProto, second: onnx.ModelProto) -> float:
    """Between the graphs' outputs, on normally distributed inputs (integers: 0 to 9), at several batch sizes.

    Relative to the largest magnitude of an output. Raises BundleError if a graph cannot be run, if names, types or
    shapes of the outputs differ, or if only one of two values is a finite number.
    """
    sessions = [_session(graph) for graph in (first, second)]
    worst = 0.0
    for values in _inputs(sessions[0]):
        expected, again, found = (_run(session, values) for session in (sessions[0], *sessions))
        if any(_difference(name, array, again[name]) > TOLERANCE for name, array in expected.items()):
            raise BundleError("the graph draws random numbers: it makes something else each time it is run")
        if expected.keys() != found.keys():
            raise BundleError(f"the outputs are {', '.join(found)}; they were {', '.join(expected)}")
        for name, array in expected.items():
            worst = max(worst, _difference(name, array, found[name]))
    return worst


def _session(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors have no common class but this
        raise BundleError(f"onnxruntime cannot run the graph: {str(error).splitlines()[0]}") from error


def _inputs(session: Any) -> Iterator[dict[str, Array]]:
    random = np.random.default_rng(0)
    for size in BATCH_SIZES:
        values: dict[str, Array] = {}
        for node in session.get_inputs():
            free = [size, *[FREE_SIZE] * len(node.shape)]
            shape = [each if isinstance(each, int) else free[axis] for axis, each in enumerate(node.shape)]
            if node.type in KINDS:
                values[node.name] = random.standard_normal(shape).astype(KINDS[node.type])
            elif node.type in INTEGERS:
                values[node.name] = random.integers(0, 10, shape).astype(INTEGERS[node.type])
            else:
                raise BundleError(f"the input {node.name} is a {node.type}; known are {', '.join(KINDS | INTEGERS)}")
        yield values


def _run(session: Any, values: dict[str, Array]) -> dict[str, Array]:
    names = [node.name for node in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, values), strict=True))
    except Exception as error:  # as above
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in values.items())
        raise BundleError(f"onnxruntime cannot run the graph on {shapes}: {str(error).splitlines()[0]}") from error


def _difference(name: str, expected: Array, found: Array) -> float:
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        raise BundleError(f"{name} is {found.dtype} {found.shape}; it was {expected.dtype} {expected.shape}")
    if not expected.size:
        return 0.0
    before, after = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(before)
    if not np.array_equal(before[~finite], after[~finite], equal_nan=True) or not np.isfinite(after[finite]).all():
        raise BundleError(f"{name} is not finite at the same places")
    if not finite.any():
        return 0.0
    scale = np.abs(before[finite]).max()
    return float(np.abs(after - before)[finite].max() / scale) if scale else float(np.abs(after[finite]).max())
