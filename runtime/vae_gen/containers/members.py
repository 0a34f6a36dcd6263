"""What the formats share: pictures named by their indices, and reading with bounded memory."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import Image

from vae_gen.defaults import INDEX_DIGITS
from vae_gen.errors import DataError
from vae_gen.images import ByteImages, ImageShape, from_pillow
from vae_gen.manifest import COLOR_MODES
from vae_gen.png import SIGNATURE, PngEncoder

Chunk = tuple[list[int] | None, ByteImages]  # indices, where there are any; uint8 [n, C, H, W]

MOST_AT_ONCE = 1024  # images
BYTES_AT_ONCE = 1 << 26
NAME = re.compile(rf"([0-9]{{{INDEX_DIGITS},}})\.(json|png)")


class PictureMembers:
    """Images -> PNG files and the digits that name them."""

    def __init__(self, image_shape: ImageShape, provenance: Mapping[str, str | int | float] | None) -> None:
        texts = None if provenance is None else {keyword: str(value) for keyword, value in provenance.items()}
        self._encoder = PngEncoder(image_shape, texts)
        self._has_texts = texts is not None

    def encode(self, images: ByteImages, indices: Sequence[int]) -> Iterator[tuple[bytes, bytes]]:
        """For each image [C, H, W] of uint8 [n, C, H, W], its name without a suffix and its PNG file's content."""
        contents = self._encoder.encode(images, indices if self._has_texts else None)
        digits = [b"%0*d" % (INDEX_DIGITS, index) for index in indices]
        return zip(digits, contents, strict=True)


def index_and_suffix(name: str, source: str) -> tuple[int, str]:
    """000000123.png -> 123 and png. Raises DataError for names of another kind."""
    match = NAME.fullmatch(name)
    if match is None:
        raise DataError(f"{source} holds {name!r}; pictures are named by their index, like 000000123.png")
    return int(match[1]), match[2]


def decode_png(content: bytes, name: str, source: str) -> ByteImages:
    """The content of a PNG file -> uint8 [C, H, W], C = 1, 3 or 4. Raises DataError."""
    check_png(content, name, source)
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            picture.load()
    except Exception as error:  # what a decoder raises on damaged input can be anything
        raise _damaged(name, source, error) from error
    if picture.mode not in COLOR_MODES.values():
        known = ", ".join(COLOR_MODES.values())
        raise DataError(f"{source} holds {name} with pixels of mode {picture.mode}; images are {known}")
    return from_pillow(picture)


def check_png(content: bytes, name: str, source: str) -> None:
    """Raise DataError unless the content of a PNG file is whole, by the checksums of its chunks.

    Without this, Pillow makes wrong pixels of some damaged data; its own verify() is seven times as slow.
    """
    if not content.startswith(SIGNATURE):
        raise _damaged(name, source, "it does not begin as PNG files do")
    start, kind = len(SIGNATURE), b""
    while start < len(content):
        head = content[start : start + 8]
        kind, end = head[4:], start + 8 + int.from_bytes(head[:4])
        if zlib.crc32(content[start + 4 : end]) != int.from_bytes(content[end : end + 4]):
            raise _damaged(name, source, "a chunk's checksum is wrong")
        start = end + 4
    if kind != b"IEND":
        raise _damaged(name, source, "its end is missing")


def _damaged(name: str, source: str, what: object) -> DataError:
    return DataError(f"{source} holds a damaged picture, {name}: {what}")


def in_chunks(pictures: Iterable[tuple[int, ByteImages]], source: str) -> Iterator[Chunk]:
    """Indices and images [C, H, W] of one shape -> chunks. Raises DataError for an image of another shape."""
    indices: list[int] = []
    images: list[ByteImages] = []
    shape = None
    for index, image in pictures:
        if image.shape != (shape := shape or image.shape):
            raise DataError(
                f"{source} holds images of several shapes: {shape} and, with the index {index}, {image.shape}"
            )
        indices.append(index)
        images.append(image)
        if len(images) == images_at_once(image.size):
            yield indices, np.stack(images)
            indices, images = [], []
    if images:
        yield indices, np.stack(images)


def images_at_once(image_size: int) -> int:
    """How many images of so many bytes make a chunk."""
    return max(1, min(MOST_AT_ONCE, BYTES_AT_ONCE // image_size))


@contextmanager
def cannot_read(source: str) -> Iterator[None]:
    """Whatever a damaged file makes of a library, it becomes a DataError that names `source`."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"cannot read {source}: {str(error) or type(error).__name__}") from error
