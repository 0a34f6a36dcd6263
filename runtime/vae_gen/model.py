"""Model: a bundle, or a decoder alone, ready to run. The only file that imports onnxruntime."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

# onnxruntime 1.29 and later report usage to their makers unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import numpy.typing as npt
import onnxruntime

from vae_gen.bundles import find
from vae_gen.cpus import usable_cpus
from vae_gen.errors import BundleError, DataError, UsageError
from vae_gen.images import FloatImages
from vae_gen.latents import Latents, draw
from vae_gen.manifest import DECODER, ENCODER, MANIFEST, Description, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

ERRORS_ONLY = 3  # onnxruntime's log severity
ROWS_PER_RUN = 64
MAX_TEMPERATURE = 100


def load(model: str | Path, threads: int | None = None) -> Model:
    """The model of that name, in that directory, or in that decoder file.

    `threads` is how many processors one call may use; by default all that this process may.
    Raises BundleError if there is no such model or its files are damaged, UsageError if `threads` is below 1.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}; it must be at least 1")
    return Model(find(model), threads or usable_cpus())


class Model:
    """An encoder and a decoder, or a decoder alone, checked and ready to run.

    Every graph runs on exactly ROWS_PER_RUN rows at a time, the last ones padded: an engine may choose
    another order of summation for another batch size, so this is what makes an image's bytes independent
    of which others are made with it. It also keeps onnxruntime's memory arena from growing.
    """

    def __init__(self, path: Path, threads: int) -> None:
        """Open the bundle in the directory `path` or the decoder file `path`. Raises BundleError."""
        self.threads = threads
        self.directory = path if path.is_dir() else None
        self.manifest = Manifest.read(path) if path.is_dir() else None
        decoder = path / DECODER if path.is_dir() else path
        self._decoder = self._open(decoder)
        self.description = _describe_decoder(self._decoder, decoder)
        if self.manifest is not None and self.manifest.description != self.description:
            raise BundleError(f"{decoder} and {path / MANIFEST} do not describe the same model")

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def latent_dim(self) -> int:
        return self.description.latent_dim

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.description.image_shape

    def decode(self, z: npt.ArrayLike) -> FloatImages:
        """Latents [n, latent_dim] -> images float32 [n, C, H, W] in [0, 1].

        Raises DataError if `z` has another shape or holds a value that is not finite, BundleError if the
        decoder makes one that is not.
        """
        (images,) = _run(self._decoder, self.check_latents(z), [self.image_shape])
        if not np.isfinite(images).all():
            raise BundleError(f"the decoder {self.name} made values that are not finite numbers; the model is broken")
        return images

    def encode(self, images: npt.ArrayLike) -> tuple[Latents, Latents]:
        """Images [n, C, H, W] in [0, 1] -> mean and log-variance of q(z | image), each float32 [n, latent_dim].

        Raises DataError if `images` has another shape or range, BundleError if the model has no encoder or it
        makes a value that is not finite.
        """
        rows = _as_float32(images, "images")
        if rows.ndim != 4 or rows.shape[1:] != self.image_shape:
            expected = ", ".join(map(str, self.image_shape))
            raise DataError(f"the images have shape {rows.shape}; {self.name} needs [n, {expected}]")
        if rows.size and not (rows.min() >= 0 and rows.max() <= 1):
            raise DataError(f"the images hold values from {rows.min()} to {rows.max()}; they must lie in [0, 1]")
        mean, log_var = _run(self._encoder, rows, [(self.latent_dim,)] * 2)
        if not (np.isfinite(mean).all() and np.isfinite(log_var).all()):
            raise BundleError(f"the encoder {self.name} made values that are not finite numbers; the model is broken")
        return mean, log_var

    def sample(self, count: int, seed: int = 0, start: int = 0, temperature: float = 1.0) -> FloatImages:
        """Images start ... start + count - 1 of `seed`: float32 [count, C, H, W] in [0, 1].

        Image i of a seed is the same whatever else is made with it. `temperature` scales the latents.
        Raises UsageError if a value is out of range.
        """
        if not 0 <= temperature <= MAX_TEMPERATURE:
            raise UsageError(f"temperature is {temperature}; it must be between 0 and {MAX_TEMPERATURE}")
        return self.decode(draw(seed, start, count, self.latent_dim) * np.float32(temperature))

    def check_latents(self, z: npt.ArrayLike) -> Latents:
        """`z` as float32 [n, latent_dim]. Raises DataError if it has another shape or a value that is not finite."""
        latents = _as_float32(z, "latents")
        if latents.ndim != 2 or latents.shape[1] != self.latent_dim:
            raise DataError(f"the latents have shape {latents.shape}; {self.name} needs [n, {self.latent_dim}]")
        if not np.isfinite(latents).all():
            raise DataError("the latents hold values that are not finite numbers")
        return latents

    def check(self) -> None:
        """Open every graph that there is. Raises BundleError if one is missing, damaged or does not belong."""
        if self.directory is not None:
            _ = self._encoder

    @cached_property
    def _encoder(self) -> onnxruntime.InferenceSession:
        if self.directory is None:
            raise BundleError(f"{self.name} is a decoder alone; this needs a bundle that has an {ENCODER} too")
        path = self.directory / ENCODER
        session = self._open(path)
        description = Description.from_metadata(session.get_modelmeta().custom_metadata_map, str(path))
        if description.bundle_id != self.description.bundle_id:
            raise BundleError(
                f"{path} and {self.directory / DECODER} do not belong together: "
                f"their bundle ids are {description.bundle_id} and {self.description.bundle_id}"
            )
        _check_encoder(session, self.description, path)
        return session

    def _open(self, path: Path) -> onnxruntime.InferenceSession:
        if self.manifest is not None:
            self.manifest.check_file(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        # Threads that spin while they wait take the processors from whoever writes the pictures.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        except OSError as error:
            raise BundleError(f"cannot read {path}: {error}") from error
        except Exception as error:  # onnxruntime's own errors have no common class but this
            reason = str(error).splitlines()[0]
            raise BundleError(f"{path} is not an ONNX graph that can be run: {reason}") from error


def _describe_decoder(session: onnxruntime.InferenceSession, path: Path) -> Description:
    """What the decoder's metadata says, or for a graph without it what its shapes say. Raises BundleError."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    found = f"its inputs are {_signature(inputs)}, its outputs {_signature(outputs)}"
    if len(inputs) != 1 or len(outputs) != 1 or not _fits(inputs[0], rank=2) or not _fits(outputs[0], rank=4):
        raise BundleError(
            f"{path} is no decoder: it must have one input float32 [batch, latent_dim] "
            f"and one output float32 [batch, channels, height, width]; {found}"
        )
    latent_dim, image_shape = inputs[0].shape[1], tuple(outputs[0].shape[1:])
    metadata = session.get_modelmeta().custom_metadata_map
    if "bundle_id" not in metadata:
        values = {"name": path.stem, "bundle_id": "", "licence": "unknown"}
        return Description.build({**values, "latent_dim": latent_dim, "image_shape": image_shape}, str(path))
    description = Description.from_metadata(metadata, str(path))
    if (description.latent_dim, description.image_shape) != (latent_dim, image_shape):
        raise BundleError(f"the metadata of {path} does not fit its graph: {found}")
    return description


def _check_encoder(session: onnxruntime.InferenceSession, description: Description, path: Path) -> None:
    """Raise BundleError unless the graph takes the model's images and gives `mean` and `log_var` of its latents."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shapes = [tuple(node.shape[1:]) for node in (*inputs, *outputs)]
    fits = (
        all(_fits(node, rank) for nodes, rank in ((inputs, 4), (outputs, 2)) for node in nodes)
        and [node.name for node in outputs] == ["mean", "log_var"]
        and shapes == [description.image_shape, (description.latent_dim,), (description.latent_dim,)]
    )
    if not fits:
        raise BundleError(
            f"{path} is no encoder of this model: it must turn images [batch, "
            f"{', '.join(map(str, description.image_shape))}] into mean and log_var [batch, {description.latent_dim}]; "
            f"its inputs are {_signature(inputs)}, its outputs {_signature(outputs)}"
        )


def _signature(nodes: list[Any]) -> str:
    """A graph's inputs or outputs for people: z tensor(float) [batch, 8]."""
    return "; ".join(f"{node.name} {node.type} [{', '.join(map(str, node.shape))}]" for node in nodes)


def _fits(node: Any, rank: int) -> bool:
    """Whether a graph's input or output is float32 [batch, ...] with a free batch axis and known sizes after it."""
    shape = node.shape
    return (
        node.type == "tensor(float)"
        and len(shape) == rank
        and not isinstance(shape[0], int)
        and all(isinstance(size, int) for size in shape[1:])
    )


def _as_float32(values: npt.ArrayLike, what: str) -> npt.NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):  # too large for a float32 becomes infinite, which is refused
            return np.asarray(values, np.float64).astype(np.float32)
    except (ValueError, TypeError) as error:
        raise DataError(f"the {what} are no array of numbers: {error}") from error


def _run(
    session: onnxruntime.InferenceSession, rows: npt.NDArray[np.float32], shapes: list[tuple[int, ...]]
) -> list[npt.NDArray[np.float32]]:
    """All outputs of the graph for all rows, ROWS_PER_RUN at a time; each row of output k has shape shapes[k].

    Raises BundleError if the graph fails or makes another shape than it declares.
    """
    name = session.get_inputs()[0].name
    expected = [(ROWS_PER_RUN, *shape) for shape in shapes]
    parts = []
    for chunk in _chunks(rows):
        try:
            outputs = session.run(None, {name: chunk})
        except Exception as error:  # onnxruntime's own errors have no common class but this
            raise BundleError(f"the graph cannot be run: {str(error).splitlines()[0]}") from error
        found = [output.shape for output in outputs]
        if found != expected:
            raise BundleError(f"the graph makes arrays of shape {found} where it declares {expected}")
        parts.append(outputs)
    return [np.concatenate(pieces)[: len(rows)] for pieces in zip(*parts, strict=True)]


def _chunks(rows: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    """`rows` in pieces of ROWS_PER_RUN, the last filled up with zeros; one piece if there are no rows."""
    for start in range(0, max(len(rows), 1), ROWS_PER_RUN):
        chunk = rows[start : start + ROWS_PER_RUN]
        if len(chunk) < ROWS_PER_RUN:
            chunk = np.concatenate([chunk, np.zeros((ROWS_PER_RUN - len(chunk), *rows.shape[1:]), np.float32)])
        yield chunk
