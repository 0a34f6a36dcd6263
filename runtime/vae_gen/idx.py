"""The IDX file format of the MNIST family: a header, then one array of unsigned bytes; gzipped or not.

Header: two zero bytes, one byte for the element type (8 = unsigned byte, the only one accepted here),
one byte for the number of dimensions, then each dimension's size as a big-endian 32-bit integer.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from vae_gen.errors import DataError
from vae_gen.files import read_up_to
from vae_gen.images import ImageShape

UNSIGNED_BYTE = 8
MOST_IMAGES = 2**32 - 1  # as a header counts them
GZIP_MAGIC = b"\x1f\x8b"
KINDS = {1: "labels", 3: "images", 4: "images with channels"}


@contextmanager
def open_unpacked(path: Path) -> Iterator[BinaryIO]:
    """The file to read, uncompressed if it is a gzip file; seekable, even if it is a pipe.

    Raises OSError, and DataError for what is read of a gzip file that is cut or damaged.
    """
    try:
        with path.open("rb") as file:
            stream: BinaryIO = file if file.seekable() else io.BytesIO(file.read())
            packed = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            stream.seek(0)
            yield cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if packed else stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def idx_header(count: int, image_shape: ImageShape) -> bytes:
    """What comes before the pixels in an IDX file: of [count, H, W] if C is 1, and of [count, C, H, W] if not."""
    shape = (count, *image_shape[image_shape[0] == 1 :])
    return struct.pack(f">HBB{len(shape)}I", 0, UNSIGNED_BYTE, len(shape), *shape)


def read_shape(file: BinaryIO, source: str, *dimensions: int) -> tuple[int, ...]:
    """The shape in the header of an IDX file, after which `file` stands at the first element.

    `dimensions` are what the caller can use: 3 for images [n, height, width], 4 for those with channels, 1 for labels.
    Raises DataError, naming `source`, if it is no IDX file or of another kind.
    """
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataError(f"{source} is not an IDX file: it does not begin with two zero bytes")
    element_type, rank = magic[2:]
    if element_type != UNSIGNED_BYTE:
        raise DataError(
            f"{source} holds elements of IDX type 0x{element_type:02x}; only 0x08 (unsigned byte) is supported"
        )
    if rank not in dimensions:
        raise DataError(
            f"{source} has {rank} dimensions ({KINDS.get(rank, 'unknown')}); "
            f"{' or '.join(map(str, dimensions))} are needed ({KINDS.get(dimensions[0], 'unknown')})"
        )
    sizes = read_up_to(file, 4 * rank)
    if len(sizes) < 4 * rank:
        raise DataError(f"{source} is truncated: it ends in its header")
    return struct.unpack(f">{rank}I", sizes)


def read_idx(file: BinaryIO, source: str, *dimensions: int) -> npt.NDArray[np.uint8]:
    """The array in an IDX file. No more is read than its header promises. Raises DataError, as `read_shape` does."""
    shape = read_shape(file, source, *dimensions)
    promised = math.prod(shape)
    content = read_up_to(file, promised + 1)
    if len(content) < promised:
        raise DataError(
            f"{source} is truncated: {len(content)} bytes follow its header, and for shape {shape} it is {promised}"
        )
    if len(content) > promised:
        raise DataError(f"{source} is longer than its header says: more than {promised} bytes follow, for {shape}")
    if not promised:
        raise DataError(f"{source} holds nothing: its shape is {shape}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_idx_file(path: Path, *dimensions: int) -> npt.NDArray[np.uint8]:
    """The array in the IDX file at `path`, gzipped or not. Raises OSError, and DataError as `read_shape` does."""
    with open_unpacked(path) as file:
        return read_idx(file, str(path), *dimensions)
