"""An .npz file: a zip archive of one .npy file, deflated as it comes."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from vae_gen.containers import zip_records as records
from vae_gen.containers.arrays import check_count, npy_header, read_npy
from vae_gen.containers.members import Chunk, cannot_read
from vae_gen.errors import DataError
from vae_gen.images import ByteImages, ImageShape

NAME = b"images.npy"
LEVEL = 1  # half the time of zlib's usual 6, and a tenth more bytes
GROWTH = 1 / 1024  # more than deflate adds to what it cannot compress


class NpzContainer:
    """The array `images`, uint8 [count, C, H, W]. Nobody seeks: the sizes come after it, in a data descriptor."""

    def __init__(self, file: BinaryIO, count: int, image_shape: ImageShape) -> None:
        self._file = file
        self._count = count
        self._written = 0
        self._deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._crc = 0
        self._size = 0
        self._packed = 0
        header = npy_header(count, image_shape)
        size = len(header) + count * math.prod(image_shape)
        self._zip64 = size * (1 + GROWTH) + 1024 >= records.LIMIT_32
        self._before = records.local_header_of_stream(NAME, records.DEFLATED, self._zip64)
        file.write(self._before)
        self._add(header)

    def write(self, images: ByteImages, _indices: Sequence[int]) -> None:
        self._written += len(images)
        self._add(np.ascontiguousarray(images).data.cast("B") if images.size else b"")

    def close(self) -> None:
        check_count(self._written, self._count)
        self._put(self._deflate.flush())
        descriptor = records.data_descriptor(self._crc, self._packed, self._size, self._zip64)
        values = (records.DEFLATED, self._crc, self._packed, self._size)
        directory = records.central_header(NAME, *values, offset=0, flags=records.SIZES_FOLLOW)
        offset = len(self._before) + self._packed + len(descriptor)
        self._file.write(descriptor + directory + records.end_of_archive(1, len(directory), offset))

    def _add(self, content: bytes | memoryview) -> None:
        self._crc = zlib.crc32(content, self._crc)
        self._size += len(content)
        self._put(self._deflate.compress(content))

    def _put(self, packed: bytes) -> None:
        self._packed += len(packed)
        self._file.write(packed)


def read_npz(file: BinaryIO, source: str) -> Iterator[Chunk]:
    """The images in an .npz file of one array, `images`, uint8 [n, C, H, W]. Raises DataError."""
    with cannot_read(source), zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if names != [NAME.decode()]:
            raise DataError(f"{source} holds {', '.join(names) or 'nothing'}; it should be {NAME.decode()} alone")
        with archive.open(names[0]) as member:
            yield from read_npy(member, source)
