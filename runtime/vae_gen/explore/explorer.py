"""What the page asks of a model: pictures, what a sweep of each latent would show, and the latents of a picture."""

from __future__ import annotations

import base64
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vae_gen.data.pictures import picture_in
from vae_gen.data.tones import AS_THEY_ARE, Tones
from vae_gen.errors import UsageError
from vae_gen.evaluation.familiarity import familiarity
from vae_gen.evaluation.metrics import sum_of_squared_errors
from vae_gen.images import ByteImages, FloatImages, from_pillow, inverted, to_float, to_pillow, to_uint8
from vae_gen.latents import Latents, draw, fresh_seed
from vae_gen.model import Model
from vae_gen.paths import traversal
from vae_gen.png import encode_png
from vae_gen.reading import Reading
from vae_gen.shell import joined

SWEEP = tuple(range(-3, 4))  # standard deviations of N(0, 1); a filmstrip has a picture at each
THUMBNAIL = 64  # pixels of the longer side of a picture in a filmstrip, at most
COLORS = {1: "grey", 3: "colour", 4: "colour and alpha"}  # by channels


@dataclass(frozen=True)
class Pictures:
    """The picture of some latents and filmstrips through it, as a canvas has them: red, green, blue and alpha."""

    pixels: bytes  # the picture's rows, then those of each strip
    squared_error: float | None  # of the picture against another


class Explorer:
    """A model as the page sees it; several threads may ask."""

    def __init__(self, model: Model, given: str, reading: Reading, tones: Tones = AS_THEY_ARE) -> None:
        """`given` and `reading` are how the command line was told of the model; `tones.white` is of pictures that come.

        Raises BundleError if the model is damaged.
        """
        model.check()
        _ = model.decoder_sha256  # of the file as it was read
        self.model, self._white = model, tones.white
        self._options = joined(["--model", given, *reading.as_options])
        self._turn = threading.Lock()  # whose turn it is has all processors

    def about(self) -> dict[str, Any]:
        """All that the page needs to begin."""
        description = self.model.description
        channels, height, width = self.model.image_shape
        thumbnail = _thumbnail_size(height, width)
        return {
            "name": description.name,
            "licence": description.licence,
            "latent_dim": self.model.latent_dim,
            "latent_kl": description.latent_kl,
            "width": width,
            "height": height,
            "colors": COLORS[channels],
            "sweep": SWEEP,
            "strip": {"width": len(SWEEP) * thumbnail[0], "height": thumbnail[1]},
            "encodes": self.model.directory is not None,
            "options": self._options,  # that tell a command of this model
        }

    def draw(self, seed: int | None, index: int) -> tuple[int, list[float]]:
        """The seed, or a fresh one, and the latents of image `index` of it. Raises UsageError."""
        seed = fresh_seed() if seed is None else seed
        return seed, _numbers(draw(seed, index, 1, self.model.latent_dim)[0])

    def pictures(self, z: Sequence[float], dims: Sequence[int], target: str | None = None) -> Pictures:
        """The picture of z, what sweeping each of `dims` from there would show, and its error against `target`.

        `target` is another picture's pixels in base64, as `encode` gives them. Raises DataError or UsageError.
        """
        point = self.model.check_latents([z])
        if len(dims) > self.model.latent_dim:
            raise UsageError(f"{len(dims)} dims are asked for; the model has {self.model.latent_dim} latents")
        wanted = None if target is None else self._image_of(target)
        points = np.concatenate([point, *(traversal(point[0], dim, np.array(SWEEP)) for dim in dims)])
        with self._turn:
            first, *others = self.model.decode_bytes(points)
            found = None if wanted is None else sum_of_squared_errors(self.model.decode(point), wanted)
        sheets = [_rgba(first)]
        for start in range(0, len(others), len(SWEEP)):
            frames = [_thumbnail(image) for image in others[start : start + len(SWEEP)]]
            sheets.append(np.concatenate(frames, axis=1))
        return Pictures(b"".join(map(np.ndarray.tobytes, sheets)), None if found is None else float(found[0]))

    def png(self, z: Sequence[float]) -> bytes:
        """The picture of z as a PNG file. Raises DataError."""
        point = self.model.check_latents([z])
        with self._turn:
            (image,) = self.model.decode_bytes(point)
        return encode_png(image)

    def encode(self, content: bytes, invert: bool) -> dict[str, Any]:
        """Of the picture in a file: its latents, what the model sees of it, and whether it had better be inverted.

        Raises DataError if it is no picture, BundleError if the model has no encoder.
        """
        images = picture_in(content, self.model.image_shape, self._white)
        images = inverted(images, 1) if invert else images
        with self._turn:
            mean, _ = self.model.encode(images)
            swap = familiarity(images, self.model).better_inverted
        pixels = base64.b64encode(_rgba(to_uint8(images[0])).tobytes()).decode()
        return {"z": _numbers(mean[0]), "pixels": pixels, "better_swapped": swap}

    def _image_of(self, pixels: str) -> FloatImages:
        channels, height, width = self.model.image_shape
        try:
            values = np.frombuffer(base64.b64decode(pixels, validate=True), np.uint8).reshape(1, height, width, 4)
        except (TypeError, ValueError) as error:
            raise UsageError(f"the target is not {width} by {height} pixels of four bytes, in base64") from error
        return to_float(np.moveaxis(values, -1, 1)[:, :channels])


def _numbers(latents: Latents) -> list[float]:
    """As few digits as tell each float32 from the others."""
    return [float(str(value)) for value in latents]


def _rgba(image: ByteImages) -> ByteImages:
    """[C, H, W] -> [H, W, 4]."""
    channels, height, width = image.shape
    pixels = np.full((height, width, 4), 255, np.uint8)
    pixels[..., : max(channels, 3)] = np.moveaxis(image, 0, -1)  # grey is three times the same
    return pixels


def _thumbnail_size(height: int, width: int) -> tuple[int, int]:
    """Width and height."""
    scale = min(1, THUMBNAIL / max(height, width))
    return max(1, round(scale * width)), max(1, round(scale * height))


def _thumbnail(image: ByteImages) -> ByteImages:
    from PIL import Image

    size = _thumbnail_size(*image.shape[1:])
    if size == image.shape[:0:-1]:
        return _rgba(image)
    return _rgba(from_pillow(to_pillow(image).resize(size, Image.Resampling.BOX)))
