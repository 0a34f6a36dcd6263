"""The IDX file format of the MNIST family: a header, then one array of unsigned bytes.

Header: two zero bytes, one byte for the element type (8 = unsigned byte, the only one accepted here),
one byte for the number of dimensions, then each dimension's size as a big-endian 32-bit integer.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vae_gen.errors import DataError

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


def parse_idx(content: bytes, source: str, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array in an IDX file's content.

    `dimensions` is what the caller needs: 3 for images [n, height, width], 1 for labels [n].
    Raises DataError, naming `source`, if the content is no IDX file, is truncated or of another kind.
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(f"{source} is not an IDX file: it does not begin with two zero bytes")
    element_type, rank = content[2], content[3]
    if element_type != UNSIGNED_BYTE:
        raise DataError(
            f"{source} holds elements of IDX type 0x{element_type:02x}; only 0x08 (unsigned byte) is supported"
        )
    if rank != dimensions:
        kinds = {1: "labels", 3: "images"}
        raise DataError(
            f"{source} has {rank} dimensions ({kinds.get(rank, 'unknown')}); "
            f"{dimensions} are needed ({kinds.get(dimensions, 'unknown')})"
        )
    header = 4 + 4 * rank
    if len(content) < header:
        raise DataError(f"{source} is truncated: {len(content)} bytes, its header alone needs {header}")
    shape = struct.unpack(f">{rank}I", content[4:header])
    expected = header + math.prod(shape)
    if len(content) != expected:
        state = "truncated" if len(content) < expected else "longer than its header says"
        raise DataError(f"{source} is {state}: {len(content)} bytes, {expected} expected for shape {shape}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_idx(path: Path, dimensions: int = 3) -> npt.NDArray[np.uint8]:
    """The array in the IDX file at `path`, gzipped or not. Raises DataError."""
    return parse_idx(read_idx_bytes(path), str(path), dimensions)
