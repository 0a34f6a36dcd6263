"""Model: a bundle, or a decoder alone, ready to run."""

from __future__ import annotations

import operator
import secrets
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vae_gen.bundles import find
from vae_gen.cpus import usable_cpus
from vae_gen.decoder import Decoder, files_of
from vae_gen.defaults import MAX_THREADS
from vae_gen.errors import BundleError, DataError, UsageError
from vae_gen.graph import Graph
from vae_gen.images import ByteImages, FloatImages, check_range
from vae_gen.latents import Latents, checked_temperature, draw
from vae_gen.manifest import DECODER, ENCODER, MANIFEST, Description, Manifest, sha256_of
from vae_gen.reading import Range, Reading


def load(
    model: str | Path,
    threads: int | None = None,
    *,
    layout: str | None = None,
    value_range: tuple[float, float] | None = None,
    output_name: str | None = None,
) -> Model:
    """The model of that name, in that directory, or in that decoder file.

    `threads` is how many processors one call may use, 1 to 1,024; by default all that this process may. The others
    say how somebody else's decoder is read, where it does not say so itself: `layout` is "NCHW", "NHWC" or "NHW"
    (grey), `value_range` the values of black and white, such as (-1, 1), `output_name` which output is the image.
    Raises BundleError if there is no such model or its files are damaged, UsageError if a value is not allowed.
    """
    reading = Reading(layout, _pair(value_range), output_name)
    return Model(find(model), usable_cpus() if threads is None else _number(threads), reading)


def _number(threads: int) -> int:
    try:
        number = operator.index(threads)  # numpy's integers are numbers too
    except TypeError:
        number = 0
    if not 1 <= number <= MAX_THREADS:
        raise UsageError(f"threads is {threads!r}; it must be a whole number from 1 to {MAX_THREADS:,}")
    return number


def _pair(value_range: tuple[float, float] | None) -> Range | None:
    if value_range is None:
        return None
    try:
        low, high = map(float, value_range)
    except (TypeError, ValueError) as error:
        raise UsageError(f"value_range is {value_range!r}; it must be two numbers, such as (-1, 1)") from error
    return low, high


def load_bundle(model: str | Path, threads: int | None = None) -> Model:
    """`load` for what needs the encoder too. Raises BundleError, before all else, if `model` is a decoder alone."""
    if (path := find(model)).is_file():
        raise BundleError(_is_alone(path))
    return load(model, threads)


def _is_alone(decoder: Path) -> str:
    return f"{decoder} is a decoder alone; this needs a bundle that has an {ENCODER} too"


class Model:
    """An encoder and a decoder, or a decoder alone, checked and ready to run: what `load` returns.

    What it makes of one row does not depend on which others are given with it, to the last bit. `threads` is how many
    processors one call may use; `description` what the decoder says of itself. Of a bundle, `directory` is where it
    lies and `manifest` what its manifest.json says; both are None of a decoder alone.
    """

    def __init__(self, path: Path, threads: int, reading: Reading) -> None:
        """For `load`, which checks these values. Raises BundleError or UsageError."""
        self.threads = threads
        self.directory = path if path.is_dir() else None
        self.manifest = Manifest.read(path) if path.is_dir() else None
        self._decoder = Decoder(self._checked(path / DECODER if path.is_dir() else path), threads, reading)
        self.description = self._decoder.description
        if self.manifest is not None and self.manifest.description != self.description:
            raise BundleError(f"{path / DECODER} and {path / MANIFEST} do not describe the same model")

    def __repr__(self) -> str:
        return f"Model({self.name!r}, latent_dim={self.latent_dim}, image_shape={self.image_shape})"

    @property
    def rows_per_run(self) -> int:
        """How many latents are decoded at once; fewer take as long."""
        return self._decoder.graph.rows_per_run

    @property
    def reading(self) -> Reading:
        """How the decoder's output is read, all of it said."""
        return self._decoder.reading

    @property
    def values_found(self) -> tuple[float, float] | None:
        """The lowest and the highest value that somebody else's decoder has made of some latents."""
        return self._decoder.values_found

    @cached_property
    def decoder_sha256(self) -> str:
        """The hash of the decoder's file, and of the weights beside it if there are any."""
        return self.manifest.sha256[DECODER] if self.manifest else sha256_of(*files_of(self._decoder.graph.path))

    @property
    def name(self) -> str:
        """A bundle's own, or that of the decoder's file."""
        return self.description.name

    @property
    def latent_dim(self) -> int:
        """How many latents an image has."""
        return self.description.latent_dim

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.description.image_shape

    def decode(self, z: npt.ArrayLike) -> FloatImages:
        """Latents [n, latent_dim] -> images float32 [n, C, H, W] in [0, 1].

        Raises DataError if `z` has another shape or holds a value that is not finite, BundleError if the
        decoder fails.
        """
        return self._decoder.decode(self.check_latents(z))

    def decode_bytes(self, z: npt.ArrayLike) -> ByteImages:
        """The same as uint8 [n, C, H, W]: times 255, rounded half up, or the bytes that the decoder itself makes."""
        return self._decoder.decode_bytes(self.check_latents(z))

    def encode(self, images: npt.ArrayLike) -> tuple[Latents, Latents]:
        """Images [n, C, H, W] in [0, 1] -> mean and log-variance of q(z | image), each float32 [n, latent_dim].

        Raises DataError if `images` has another shape or range, BundleError if the model has no encoder or it
        fails.
        """
        rows = _as_float32(images, "images")
        if rows.ndim != 4 or rows.shape[1:] != self.image_shape:
            expected = ", ".join(map(str, self.image_shape))
            raise DataError(f"the images have shape {rows.shape}; {self.name} needs [n, {expected}]")
        check_range(rows, "the images hold")
        mean, log_var = self._encoder.run(rows)
        return mean, log_var

    def sample(self, count: int, seed: int | None = None, start: int = 0, temperature: float = 1.0) -> FloatImages:
        """Images start ... start + count - 1 of `seed`: float32 [count, C, H, W] in [0, 1].

        Image i of a seed is the same whatever else is made with it. Without `seed` each call draws a fresh one, which
        nobody is told: to make images again, give it, 0 to 2^64 - 1. `temperature`, 0 to 100, scales the latents.
        Raises UsageError if a value is out of range.
        """
        temperature = checked_temperature(temperature)
        seed = secrets.randbits(64) if seed is None else seed  # more than `fresh_seed`'s bits: nobody types it again
        return self.decode(draw(seed, start, count, self.latent_dim) * np.float32(temperature))

    def check_latents(self, z: npt.ArrayLike) -> Latents:
        """`z` as float32 [n, latent_dim]. Raises DataError if it has another shape or a value that is not finite."""
        latents = _as_float32(z, "latents")
        if latents.ndim != 2 or latents.shape[1] != self.latent_dim:
            raise DataError(f"the latents have shape {latents.shape}; {self.name} needs [n, {self.latent_dim}]")
        if not np.isfinite(latents).all():
            row, dim = np.argwhere(~np.isfinite(latents))[0]
            raise DataError(f"latent {dim} of point {row} is {np.asarray(z)[row, dim]}, which is not finite in float32")
        return latents

    def check(self) -> None:
        """Open every graph that there is. Raises BundleError if one is missing, damaged or does not belong."""
        if self.directory is not None:
            _ = self._encoder

    @cached_property
    def _encoder(self) -> Graph:
        if self.directory is None:
            raise BundleError(_is_alone(self._decoder.graph.path))
        graph = Graph(self._checked(self.directory / ENCODER), self.threads)
        about, expected = Description.from_metadata(graph.metadata, str(graph.path)), self.description
        if about.bundle_id != expected.bundle_id:
            raise BundleError(
                f"{graph.path} and {self.directory / DECODER} do not belong together: "
                f"their bundle ids are {about.bundle_id} and {expected.bundle_id}"
            )
        latents = {"mean": (self.latent_dim,), "log_var": (self.latent_dim,)}
        if graph.input_shape != self.image_shape or list(graph.output_shapes.items()) != list(latents.items()):
            raise BundleError(
                f"{graph.path} is no encoder of this model: it must turn images [batch, "
                f"{', '.join(map(str, self.image_shape))}] into mean and log_var [batch, {self.latent_dim}]; "
                f"{graph.signature}"
            )
        return graph

    def _checked(self, path: Path) -> Path:
        if self.manifest is not None:
            self.manifest.check_file(path)
        return path


def _as_float32(values: npt.ArrayLike, what: str) -> npt.NDArray[np.float32]:
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biufO":
            raise DataError(f"the {what} are {array.dtype}, not real numbers")
        with np.errstate(over="ignore"):  # too large for a float32 becomes infinite, which is refused
            return array.astype(np.float32, copy=False)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"the {what} are no array of numbers: {error}") from error
