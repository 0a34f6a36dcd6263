"""A tar archive as WebDataset has it: 000000123.png, and what is known of it in 000000123.json.

Headers are POSIX ustar (IEEE Std 1003.1, pax, "ustar Interchange Format"), and the same on every machine.
"""

from __future__ import annotations

import functools
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from vae_gen.containers.members import (
    Chunk,
    PictureMembers,
    cannot_read,
    decode_png,
    in_chunks,
    index_and_suffix,
)
from vae_gen.errors import DataError
from vae_gen.files import read_up_to
from vae_gen.images import ByteImages

BLOCK = 512  # bytes
RECORD = 20 * BLOCK
# Name, mode, owner and group, size, time, checksum (its two last bytes are NUL and a space), kind, magic, all else.
HEADER = b"%b" + b"0000644\0" + b"0000000\0" * 2 + b"%b\0" + b"0" * 11 + b"\0" + b"%06o\0 " + b"0"
HEADER += bytes(100) + b"ustar\x0000" + bytes(247)
NAME_SIZE = 100
# The checksum adds up all bytes of the header, with spaces where it will stand itself.
SUM_OF_CONSTANTS = sum(HEADER % (b"", b"", 0)) - sum(b"000000\0 ") + sum(b" " * 8)


class TarContainer:
    """Pictures, each with a line of JSON after it if there is provenance, then two blocks of zeros."""

    def __init__(
        self, file: BinaryIO, members: PictureMembers, provenance: Mapping[str, str | int | float] | None
    ) -> None:
        self._file = file
        self._members = members
        self._size = 0  # bytes written
        self._has_records = provenance is not None
        values = {key.lower(): value for key, value in (provenance or {}).items()}
        self._after_index = (json.dumps(values)[1:] + "\n").encode()
        if values:
            self._after_index = b", " + self._after_index

    def write(self, images: ByteImages, indices: Sequence[int]) -> None:
        parts: list[bytes] = []
        for index, (digits, content) in zip(indices, self._members.encode(images, indices), strict=True):
            parts += (_header(digits + b".png", len(content)), content, bytes(-len(content) % BLOCK))
            if self._has_records:
                record = b'{"index": %d%b' % (index, self._after_index)
                parts += (_header(digits + b".json", len(record)), record, bytes(-len(record) % BLOCK))
        content = b"".join(parts)
        self._file.write(content)
        self._size += len(content)

    def close(self) -> None:
        size = self._size + 2 * BLOCK
        self._file.write(bytes(2 * BLOCK + -size % RECORD))


def _header(name: bytes, size: int) -> bytes:
    octal, total = _size_field(size)
    return HEADER % (name.ljust(NAME_SIZE, b"\0"), octal, SUM_OF_CONSTANTS + sum(name) + total)


@functools.lru_cache(1 << 12)
def _size_field(size: int) -> tuple[bytes, int]:
    """The digits of a size, and their sum as bytes."""
    octal = b"%011o" % size
    return octal, sum(octal)


def read_tar(file: BinaryIO, source: str) -> Iterator[Chunk]:
    """The images in a tar archive of PNG files that are named by their indices. Raises DataError.

    A record in JSON must come after its picture and have its index.
    """
    with cannot_read(source):
        yield from in_chunks(_pictures(file, source), source)


def _pictures(file: BinaryIO, source: str) -> Iterator[tuple[int, ByteImages]]:
    last = None
    for name, content in _members(file, source):
        index, suffix = index_and_suffix(name, source)
        if suffix == "png":
            yield index, decode_png(content, name, source)
            last = index
        elif last != index or _index_of(content) != index:
            raise DataError(f"{source} holds {name}, which is no record of the picture before it")


def _index_of(record: bytes) -> object:
    try:
        return json.loads(record)["index"]
    except (KeyError, TypeError, ValueError):
        return None


def _members(file: BinaryIO, source: str) -> Iterator[tuple[str, bytes]]:
    # tarfile's own reader takes a damaged header for the archive's end.
    while (block := read_up_to(file, BLOCK)) != bytes(BLOCK):
        try:
            member = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, ValueError) as error:
            raise DataError(f"{source} is truncated or damaged: {error}") from error
        if not member.isreg() or member.size < 0:
            raise DataError(f"{source} holds {member.name!r}, which is no regular file")
        padded = member.size + -member.size % BLOCK
        content = read_up_to(file, padded)
        if len(content) < padded:
            raise DataError(f"{source} is truncated: it ends in {member.name}")
        yield member.name, content[: member.size]
    if read_up_to(file, BLOCK) != bytes(BLOCK):
        raise DataError(f"{source} is truncated or damaged: two blocks of zeros must end it")
    while rest := file.read(RECORD):
        if rest.strip(b"\0"):
            raise DataError(f"{source} goes on after its end")
