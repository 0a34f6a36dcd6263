"""Whether two graphs compute the same, asked of onnxruntime with random data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from vae_gen.errors import BundleError

# Before the import below, as in the runtime: importing this sets the switch against onnxruntime's telemetry.
from vae_gen.graph import SILENT

from vae_gen_export.silence import silence
from vae_gen_export.simplify.evaluation import in_float64

import onnxruntime  # isort: skip

Array = npt.NDArray[Any]

BATCH_SIZES = (1, 3, 8)
FREE_SIZE = 32  # of every other axis that is free
TOLERANCE = 1e-5  # of the largest magnitude
ROUNDING = 1e-4  # the most that lies between float32 and float64, likewise
GRAPH, SIMPLIFIED = "the graph", "the simplified graph"
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
    """Between a graph's outputs and the simplified one's, on normally distributed inputs (integers: 0 to 9).

    At several batch sizes. Relative to the largest magnitude of an output, of all rows that it makes: a single value
    may be near zero by chance. Raises BundleError if a graph cannot be run, if names, types or shapes of the outputs
    differ, or if only one of two values is a finite number.
    """
    simplified = session(second, SIMPLIFIED)
    return _largest_difference(session(first), lambda values: _run(simplified, values, SIMPLIFIED))


def rounding(model: onnx.ModelProto) -> float:
    """What float32 costs a graph: the same, between its outputs and those in float64.

    0 where onnx's reference evaluator, which computes them, cannot run the graph or makes something else of it.
    """
    try:
        with silence():
            difference = _largest_difference(session(model), in_float64(model))
    except Exception:  # the evaluator's may be any
        return 0.0
    return difference if difference <= ROUNDING else 0.0


def _largest_difference(runner: Any, other: Callable[[dict[str, Array]], dict[str, Array]]) -> float:
    differences: dict[str, float] = {}
    magnitudes: dict[str, float] = {}
    for values in _inputs(runner):
        expected, again, found = _run(runner, values), _run(runner, values), other(values)
        if expected.keys() != found.keys():
            raise BundleError(f"the outputs are {', '.join(found)}; they were {', '.join(expected)}")
        for name, array in expected.items():
            magnitude = _magnitude(array)
            if _difference(name, array, again[name]) > TOLERANCE * (magnitude or 1):
                raise BundleError("the graph draws random numbers: it makes something else each time it is run")
            differences[name] = max(differences.get(name, 0.0), _difference(name, array, found[name]))
            magnitudes[name] = max(magnitudes.get(name, 0.0), magnitude)
    return max(difference / (magnitudes[name] or 1) for name, difference in differences.items())


def session(model: onnx.ModelProto, what: str = GRAPH) -> Any:
    """onnxruntime's, which logs nothing; raises BundleError if it cannot run the graph, `what` it is in words."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors have no common class but this
        raise BundleError(f"onnxruntime cannot run {what}: {str(error).splitlines()[0]}") from error


def _inputs(runner: Any) -> Iterator[dict[str, Array]]:
    random = np.random.default_rng(0)
    for size in BATCH_SIZES:
        values: dict[str, Array] = {}
        for node in runner.get_inputs():
            free = [size, *[FREE_SIZE] * len(node.shape)]
            shape = [each if isinstance(each, int) else free[axis] for axis, each in enumerate(node.shape)]
            if node.type in KINDS:
                values[node.name] = random.standard_normal(shape).astype(KINDS[node.type])
            elif node.type in INTEGERS:
                values[node.name] = random.integers(0, 10, shape).astype(INTEGERS[node.type])
            else:
                raise BundleError(f"the input {node.name} is a {node.type}; known are {', '.join(KINDS | INTEGERS)}")
        yield values


def _run(runner: Any, values: dict[str, Array], what: str = GRAPH) -> dict[str, Array]:
    names = [node.name for node in runner.get_outputs()]
    try:
        return dict(zip(names, runner.run(names, values), strict=True))
    except Exception as error:  # as above
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in values.items())
        raise BundleError(f"onnxruntime cannot run {what} on {shapes}: {str(error).splitlines()[0]}") from error


def _difference(name: str, expected: Array, found: Array) -> float:
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        raise BundleError(f"{name} is {found.dtype} {found.shape}; it was {expected.dtype} {expected.shape}")
    before, after = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(before)
    if not np.array_equal(before[~finite], after[~finite], equal_nan=True) or not np.isfinite(after[finite]).all():
        raise BundleError(f"{name} is not finite at the same places")
    return _magnitude(after[finite] - before[finite])


def _magnitude(array: Array) -> float:
    """The largest of the finite values."""
    return float(np.abs(array[np.isfinite(array)].astype(np.float64)).max(initial=0))
