"""A single PNG file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from vae_gen.containers.arrays import check_count
from vae_gen.containers.members import Chunk, PictureMembers, decode_png
from vae_gen.images import ByteImages


class PictureFile:
    """The one picture."""

    def __init__(self, file: BinaryIO, members: PictureMembers, count: int) -> None:
        self._file = file
        self._members = members
        self._count = count
        self._written = 0

    def write(self, images: ByteImages, indices: Sequence[int]) -> None:
        self._written += len(images)
        for _, content in self._members.encode(images, indices):
            self._file.write(content)

    def close(self) -> None:
        check_count(self._written, self._count)


def read_picture(file: BinaryIO, source: str) -> Iterator[Chunk]:
    """The image in a PNG file. Raises DataError."""
    yield None, decode_png(file.read(), "the only one", source)[None]
