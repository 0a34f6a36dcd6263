"""The IDX file format of the MNIST family: a header, then one array of unsigned bytes.

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

UNSIGNED_BYTE = 8
GZIP_MAGIC = b"\x1f\x8b"


def read_idx_bytes(path: Path) -> bytes:
    """The file's content, uncompressed if it is a gzip file. Raises DataError."""
    try:
        return unpack(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def unpack(content: bytes) -> bytes:
    """`content`, uncompressed if it is that of a gzip file. Raises OSError, EOFError or zlib.error if damaged."""
    return gzip.decompress(content) if content.startswith(GZIP_MAGIC) else content


@contextmanager
def open_unpacked(path: Path) -> Iterator[BinaryIO]:
    """The file to read, uncompressed if it is a gzip file; seekable, even if it is a pipe. Raises OSError."""
    with path.open("rb") as file:
        stream: BinaryIO = file if file.seekable() else io.BytesIO(file.read())
        packed = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        stream.seek(0)
        yield cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if packed else stream


def read_bounded(file: BinaryIO) -> bytes:
    """An IDX file's content as far as `parse_idx` looks at it: what its header promises, and a byte more."""
    content = file.read(4)
    content += file.read(4 * content[3] if len(content) == 4 else 0)
    rank = (len(content) - 4) // 4
    shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank]) if rank > 0 else ()
    return content + read_up_to(file, math.prod(shape) + 1)


def parse_idx(content: bytes, source: str, *dimensions: int) -> npt.NDArray[np.uint8]:
    """The array in an IDX file's content.

    `dimensions` are what the caller can use: 3 for images [n, height, width], 4 for those with channels, 1 for labels.
    Raises DataError, naming `source`, if the content is no IDX file, is truncated or of another kind.
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(f"{source} is not an IDX file: it does not begin with two zero bytes")
    element_type, rank = content[2], content[3]
    if element_type != UNSIGNED_BYTE:
        raise DataError(
            f"{source} holds elements of IDX type 0x{element_type:02x}; only 0x08 (unsigned byte) is supported"
        )
    if rank not in dimensions:
        kinds = {1: "labels", 3: "images", 4: "images with channels"}
        raise DataError(
            f"{source} has {rank} dimensions ({kinds.get(rank, 'unknown')}); "
            f"{' or '.join(map(str, dimensions))} are needed ({kinds.get(dimensions[0], 'unknown')})"
        )
    header = 4 + 4 * rank
    if len(content) < header:
        raise DataError(f"{source} is truncated: {len(content)} bytes, its header alone needs {header}")
    shape = struct.unpack(f">{rank}I", content[4:header])
    expected = header + math.prod(shape)
    if len(content) < expected:
        raise DataError(f"{source} is truncated: {len(content)} bytes, {expected} expected for shape {shape}")
    if len(content) > expected:
        raise DataError(f"{source} is longer than its header says: {expected} bytes expected for shape {shape}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_idx(path: Path, *dimensions: int) -> npt.NDArray[np.uint8]:
    """The array in the IDX file at `path`, gzipped or not; by default images [n, height, width]. Raises DataError."""
    return parse_idx(read_idx_bytes(path), str(path), *(dimensions or (3,)))
