"""One ONNX graph, ready to run. The only file that imports onnxruntime."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# onnxruntime 1.29 and later report usage to their makers unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import numpy.typing as npt
import onnxruntime

from vae_gen.errors import BundleError, UsageError
from vae_gen.files import as_text

# Rows in one run: more cost memory and the work of padding, fewer cost speed. Of the sizes tried with the shipped
# models, 128 images of 28x28 is the smallest that runs at full speed.
MAX_ROWS = 128
MAX_VALUES = 128 * 32 * 32  # of the larger of a run's input and output
ROWS_PER_RUN = "rows_per_run"  # where a graph's metadata says that it takes fewer
ENGINE_VERSION: str = onnxruntime.__version__
LARGE = 1e4  # of latents or pixels, which decoders and encoders know up to 10 or so
OF_WEIGHTS = {".bin", ".ckpt", ".pt", ".pth", ".safetensors"}  # suffixes
SILENT = 4  # onnxruntime's log severity: what fails is raised
FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
NUMBERS = {**FLOATS, "tensor(uint8)": np.uint8}

Array = npt.NDArray[Any]  # of floats, or of uint8
Shape = tuple[int, ...]  # of one row, without the batch axis


class Graph:
    """A graph with one input [batch, ...] of floats and outputs [batch, ...] of floats or uint8.

    It runs on exactly `rows_per_run` rows at a time, the last ones padded: an engine may choose another order of
    summation for another batch size, so this is what makes a row's result independent of which others are
    computed with it, to the last bit. It also keeps onnxruntime's memory arena from growing. A graph whose rows
    are not independent of each other (dynamic quantisation takes its scale from all of them) says so by
    `rows_per_run` 1 in its metadata; one whose batch axis is fixed gets the rest of a batch as zeros. Several
    threads may use it at once.
    """

    def __init__(
        self, path: Path, threads: int, rows_per_run: int | None = None, output_name: str | None = None
    ) -> None:
        """Open the file `path`, for all its outputs or the one that is named.

        Raises BundleError if it is no ONNX graph that can be run, or not of this form, UsageError if it has no such
        output.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = SILENT
        # Threads that spin while they wait take the processors from whoever writes the pictures.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if as_text(path) != str(path):
            raise BundleError(
                f"{as_text(path)} has bytes in its name, or in a folder's, that are no text in UTF-8, and onnxruntime "
                "cannot open such files; rename what has them, or copy the model elsewhere"
            )
        try:
            path.open("rb").close()
            # By its name: weights may lie in files beside it.
            self._session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        except OSError as error:
            raise BundleError(f"cannot read {path}: {error.strerror or error}") from error
        except Exception as error:  # onnxruntime's own errors have no common class but this
            if path.suffix.lower() in OF_WEIGHTS:
                raise BundleError(
                    f"{path} holds weights and is no ONNX graph; vae-gen export makes graphs of a training run's "
                    "directory, or of a network of yours with --module and --weights"
                ) from error
            raise BundleError(f"{path} is not an ONNX graph that can be run: {_first_line(error)}") from error
        self.path = path
        self.threads = threads
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.signature = f"its inputs are {_signature(inputs)}, its outputs {_signature(outputs)}"
        chosen = [node for node in outputs if output_name in (None, node.name)]
        if not chosen:
            raise UsageError(f"{path} has no output {output_name!r}; {self.signature}")
        if len(inputs) != 1 or not _is_input(inputs[0]) or not all(node.type in NUMBERS for node in chosen):
            raise BundleError(
                f"{path} cannot be used: it must have one input of floats [batch, ...], with all sizes but `batch` "
                f"known, and outputs of floats or uint8 [batch, ...]; {self.signature}"
                + ("; --output-name says which of a decoder's outputs to take" if len(chosen) > 1 else "")
            )
        batch, *sizes = inputs[0].shape
        self.batch: int | None = batch if isinstance(batch, int) else None  # where it is fixed
        self._input, self._input_type = inputs[0].name, FLOATS[inputs[0].type]
        self.input_shape: Shape = tuple(sizes)
        self.output_types = {node.name: np.dtype(NUMBERS[node.type]) for node in chosen}
        self.output_shapes = self._output_shapes(chosen)
        self.rows_per_run = rows_per_run or self._rows_per_run()

    def run(self, rows: Array) -> list[Array]:
        """Every output for `rows` of floats [n, *input_shape], in the graph's order: [n, *its shape], of its type.

        Raises BundleError if the graph fails, or makes other shapes than it declares or values that are not finite.
        """
        kinds = zip(self.output_shapes.values(), self.output_types.values(), strict=True)
        results: list[Array] = [np.empty((len(rows), *shape), kind) for shape, kind in kinds]
        for first, outputs in self.runs(rows):
            for result, output in zip(results, outputs, strict=True):
                result[first : first + len(output)] = output
        return results

    def runs(self, rows: Array) -> Iterator[tuple[int, list[Array]]]:
        """The same a run at a time: the number of its first row, and every output for its rows."""
        batch = self.batch or self.rows_per_run
        expected = [(batch, *shape) for shape in self.output_shapes.values()]
        for first in range(0, len(rows), self.rows_per_run):
            chunk = rows[first : first + self.rows_per_run]
            outputs = self._run(chunk, batch)
            found = [output.shape for output in outputs]
            if found != expected:
                raise BundleError(f"{self.path} makes arrays of shape {found} where it declares {expected}")
            if not all(output.dtype == np.uint8 or np.isfinite(output).all() for output in outputs):
                largest = np.abs(chunk.astype(np.float64)).max(initial=0)
                why = f"its input has numbers up to {largest:.3g}" if largest > LARGE else "the model is broken"
                raise BundleError(f"{self.path} makes values that are not finite numbers; {why}")
            yield first, [output[: len(chunk)] for output in outputs]

    def _run(self, rows: Array, batch: int) -> list[Array]:
        """One run, with zeros for what the rows lack of a batch."""
        if len(rows) < batch:
            rows = np.concatenate([rows, np.zeros((batch - len(rows), *self.input_shape), rows.dtype)])
        with np.errstate(over="ignore"):  # too large for a float16; what the graph makes of it is checked
            rows = rows.astype(self._input_type, copy=False)
        try:
            return list(self._session.run(list(self.output_types), {self._input: rows}))
        except Exception as error:  # as above
            raise BundleError(f"{self.path} cannot be run: {_first_line(error)}") from error

    def _output_shapes(self, nodes: Sequence[onnxruntime.NodeArg]) -> dict[str, Shape]:
        """What is declared; where that leaves a size open, what one run makes."""
        shapes = [node.shape for node in nodes]
        if not all(shape and _all_known(shape[1:]) for shape in shapes):
            batch = self.batch or 1
            shapes = [output.shape for output in self._run(np.zeros((1, *self.input_shape), np.float32), batch)]
        return {node.name: tuple(shape[1:]) for node, shape in zip(nodes, shapes, strict=True)}

    def _rows_per_run(self) -> int:
        """What the metadata say, else what the batch axis says, else a power of two, by the sizes of a row alone.

        128 for 28x28 pixels, 8 for 64x64 in colour, 1 from 256x256 on.
        """
        text = self.metadata.get(ROWS_PER_RUN, "null")
        try:
            stated = json.loads(text)
        except (ValueError, RecursionError):
            stated = text
        most = self.batch or MAX_VALUES
        if stated is not None and not (type(stated) is int and 1 <= stated <= most):
            raise BundleError(
                f"the metadata of {self.path} say that {ROWS_PER_RUN} is {stated!r:.60}; it must be 1 to {most}"
            )
        shapes = (self.input_shape, *self.output_shapes.values())
        rows = min(MAX_ROWS, max(1, MAX_VALUES // max(map(math.prod, shapes))))
        return stated or self.batch or int(2 ** math.floor(math.log2(rows)))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _signature(nodes: Sequence[onnxruntime.NodeArg]) -> str:
    """A graph's inputs or outputs for people: z tensor(float) [batch, 8]."""
    return "; ".join(f"{node.name} {node.type} [{', '.join(map(str, node.shape))}]" for node in nodes)


def _is_input(node: onnxruntime.NodeArg) -> bool:
    return node.type in FLOATS and len(node.shape) > 1 and _all_known(node.shape[1:])


def _all_known(sizes: Sequence[int | str | None]) -> bool:
    return bool(sizes) and all(isinstance(size, int) and size > 0 for size in sizes)
