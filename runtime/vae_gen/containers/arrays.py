"""One array of bytes after a header: .npy and IDX."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import IO, BinaryIO

import numpy as np

from vae_gen.containers.members import Chunk, cannot_read, images_at_once
from vae_gen.errors import DataError, OutputError
from vae_gen.files import read_up_to
from vae_gen.idx import read_shape
from vae_gen.images import ByteImages, ImageShape

MOST_CHANNELS = 4


def npy_header(count: int, image_shape: ImageShape) -> bytes:
    """What comes before the pixels of uint8 [count, C, H, W] in an .npy file, version 1.0."""
    header = io.BytesIO()
    values = {"descr": "|u1", "fortran_order": False, "shape": (count, *image_shape)}
    np.lib.format.write_array_header_1_0(header, values)
    return header.getvalue()


def check_count(written: int, count: int) -> None:
    """Raises OutputError unless as many images came as the header says."""
    if written != count:
        raise OutputError(f"the file was to hold {count} images and got {written}")


class ArrayContainer:
    """A header, then the pixels as they are."""

    def __init__(self, file: BinaryIO, header: bytes, count: int) -> None:
        self._file = file
        self._count = count
        self._written = 0
        file.write(header)

    def write(self, images: ByteImages, _indices: Sequence[int]) -> None:
        self._written += len(images)
        self._file.write(np.ascontiguousarray(images).data)

    def close(self) -> None:
        check_count(self._written, self._count)


def read_npy(file: IO[bytes], source: str) -> Iterator[Chunk]:
    """The images in an .npy file that holds uint8 [n, C, H, W], as `sample` writes it.

    Raises DataError; what people may have in such files, image_arrays reads.
    """
    with cannot_read(source):
        with warnings.catch_warnings(action="ignore"):  # damaged headers make Python's parser warn
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise DataError(f"{source} is of version {'.'.join(map(str, version))} of .npy; only 1.0 is read")
            shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype != np.uint8 or by_columns or len(shape) != 4:
            order = " in Fortran's order" if by_columns else ""
            raise DataError(f"{source} holds {dtype} of shape {shape}{order}; images are uint8 [n, C, H, W]")
        yield from _read_pixels(file, shape[0], shape[1:], source)


def read_idx(file: BinaryIO, source: str) -> Iterator[Chunk]:
    """The images in an IDX file of bytes, [n, H, W] or [n, C, H, W]. Raises DataError."""
    with cannot_read(source):
        count, *shape = read_shape(file, source, 3, 4)
        yield from _read_pixels(file, count, shape if len(shape) == 3 else [1, *shape], source)


def _read_pixels(file: IO[bytes], count: int, image_shape: Sequence[int], source: str) -> Iterator[Chunk]:
    if min(count, *image_shape) < 0 or not 1 <= image_shape[0] <= MOST_CHANNELS or not all(image_shape):
        raise DataError(f"{source} says that its images are of shape {tuple(image_shape)}, which is (C, H, W) of none")
    image_size = math.prod(image_shape)
    step = images_at_once(image_size)
    for start in range(0, count, step):
        chunk = min(step, count - start)
        content = read_up_to(file, chunk * image_size)
        if len(content) != chunk * image_size:
            there = start * image_size + len(content)
            raise DataError(f"{source} is truncated: {there} of {count * image_size} bytes of pixels are there")
        yield None, np.frombuffer(content, np.uint8).reshape(chunk, *image_shape)
    if file.read(1):
        raise DataError(f"{source} is longer than its header says")
