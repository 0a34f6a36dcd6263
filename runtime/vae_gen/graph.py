"""One ONNX graph, ready to run. The only file that imports onnxruntime."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

# onnxruntime 1.29 and later report usage to their makers unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import numpy.typing as npt
import onnxruntime

from vae_gen.errors import BundleError

# Rows in one run: more cost memory and the work of padding, fewer cost speed. Of the sizes tried with the shipped
# models, 128 images of 28x28 is the smallest that runs at full speed.
MAX_ROWS = 128
MAX_VALUES = 128 * 32 * 32  # of the larger of a run's input and output
ENGINE_VERSION: str = onnxruntime.__version__
ERRORS_ONLY = 3  # onnxruntime's log severity

Array = npt.NDArray[np.float32]
Shape = tuple[int, ...]  # of one row, without the batch axis


class Graph:
    """A graph with one float32 input [batch, ...] and float32 outputs [batch, ...], all sizes but `batch` known.

    It runs on exactly `rows_per_run` rows at a time, the last ones padded: an engine may choose another order of
    summation for another batch size, so this is what makes a row's result independent of which others are
    computed with it, to the last bit. It also keeps onnxruntime's memory arena from growing. Several threads may
    use it at once.
    """

    def __init__(self, path: Path, threads: int, rows_per_run: int | None = None) -> None:
        """Open the file `path`. Raises BundleError if it is no ONNX graph that can be run, or not of this form."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        # Threads that spin while they wait take the processors from whoever writes the pictures.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(path.read_bytes(), options, ["CPUExecutionProvider"])
        except OSError as error:
            raise BundleError(f"cannot read {path}: {error.strerror or error}") from error
        except Exception as error:  # onnxruntime's own errors have no common class but this
            raise BundleError(f"{path} is not an ONNX graph that can be run: {str(error).splitlines()[0]}") from error
        self.path = path
        self.threads = threads
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.signature = f"its inputs are {_signature(inputs)}, its outputs {_signature(outputs)}"
        if len(inputs) != 1 or not all(map(_is_of_rows, (*inputs, *outputs))):
            raise BundleError(
                f"{path} cannot be used: it must have one input float32 [batch, ...] and outputs float32 "
                f"[batch, ...], with `batch` free and all other sizes known; {self.signature}"
            )
        self._input: str = inputs[0].name
        self.input_shape: Shape = tuple(inputs[0].shape[1:])
        self.output_shapes: dict[str, Shape] = {node.name: tuple(node.shape[1:]) for node in outputs}
        self.rows_per_run = rows_per_run or _rows_per_run(self.input_shape, *self.output_shapes.values())

    def run(self, rows: Array) -> list[Array]:
        """Every output for `rows` float32 [n, *input_shape], in the graph's order: float32 [n, *its shape].

        Raises BundleError if the graph fails, or makes other shapes than it declares or values that are not finite.
        """
        results = [np.empty((len(rows), *shape), np.float32) for shape in self.output_shapes.values()]
        for first, outputs in self.runs(rows):
            for result, output in zip(results, outputs, strict=True):
                result[first : first + len(output)] = output
        return results

    def runs(self, rows: Array) -> Iterator[tuple[int, list[Array]]]:
        """The same a run at a time: the number of its first row, and every output for its rows."""
        expected = [(self.rows_per_run, *shape) for shape in self.output_shapes.values()]
        for first, chunk in _chunks(rows, self.rows_per_run):
            try:
                outputs = self._session.run(None, {self._input: chunk})
            except Exception as error:  # as above
                raise BundleError(f"{self.path} cannot be run: {str(error).splitlines()[0]}") from error
            found = [output.shape for output in outputs]
            if found != expected:
                raise BundleError(f"{self.path} makes arrays of shape {found} where it declares {expected}")
            if not all(np.isfinite(output).all() for output in outputs):
                raise BundleError(f"{self.path} makes values that are not finite numbers; the model is broken")
            yield first, [output[: len(rows) - first] for output in outputs]


def _rows_per_run(*shapes: Shape) -> int:
    """A power of two, by the sizes of a row alone: 128 for 28x28 pixels, 8 for 64x64 in colour, 1 from 256x256 on."""
    rows = min(MAX_ROWS, max(1, MAX_VALUES // max(map(math.prod, shapes))))
    return int(2 ** math.floor(math.log2(rows)))


def _chunks(rows: Array, size: int) -> Iterator[tuple[int, Array]]:
    """`rows` in pieces of `size`, each with the number of its first row; the last is filled up with zeros."""
    for first in range(0, len(rows), size):
        chunk = rows[first : first + size]
        if len(chunk) < size:
            chunk = np.concatenate([chunk, np.zeros((size - len(chunk), *rows.shape[1:]), np.float32)])
        yield first, chunk


def _signature(nodes: Sequence[onnxruntime.NodeArg]) -> str:
    """A graph's inputs or outputs for people: z tensor(float) [batch, 8]."""
    return "; ".join(f"{node.name} {node.type} [{', '.join(map(str, node.shape))}]" for node in nodes)


def _is_of_rows(node: onnxruntime.NodeArg) -> bool:
    batch, *sizes = node.shape or [0]
    return (
        node.type == "tensor(float)"
        and not isinstance(batch, int)
        and bool(sizes)
        and all(isinstance(size, int) and size > 0 for size in sizes)
    )
