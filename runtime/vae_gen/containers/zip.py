"""A zip archive of PNG files, stored: they are compressed already."""

from __future__ import annotations

import shutil
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from tempfile import SpooledTemporaryFile, gettempdir
from typing import BinaryIO

from vae_gen.containers import zip_records as records
from vae_gen.containers.members import Chunk, PictureMembers, cannot_read, decode_png, in_chunks, index_and_suffix
from vae_gen.errors import DataError, OutputError
from vae_gen.images import ByteImages

IN_MEMORY = 1 << 20  # bytes of the directory; beyond, it waits in a temporary file


class ZipContainer:
    """Headers and pictures as they come, the directory at the end."""

    def __init__(self, file: BinaryIO, members: PictureMembers) -> None:
        self._file = file
        self._members = members
        self._directory = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        weakref.finalize(self, self._directory.close)  # when writing failed and nobody calls close
        self._entries = 0
        self._size = 0  # bytes written

    def write(self, images: ByteImages, indices: Sequence[int]) -> None:
        parts: list[bytes] = []
        entries: list[bytes] = []
        offset = self._size
        for digits, content in self._members.encode(images, indices):
            name = digits + b".png"
            crc, size = zlib.crc32(content), len(content)
            header = records.local_header(name, records.STORED, crc, size, size)
            parts += (header, content)
            entries.append(records.central_header(name, records.STORED, crc, size, size, offset))
            offset += len(header) + size
        self._file.write(b"".join(parts))
        try:
            self._directory.write(b"".join(entries))
        except OSError as error:
            with suppress(OSError):  # it would be written again
                self._directory.close()
            raise OutputError(
                f"cannot keep the directory of a zip archive in {gettempdir()}, or in the folder that TMPDIR names, "
                f"until the archive ends: {error.strerror}"
            ) from error
        self._entries += len(entries)
        self._size = offset

    def close(self) -> None:
        size = self._directory.tell()
        self._directory.seek(0)
        shutil.copyfileobj(self._directory, self._file)
        self._directory.close()
        self._file.write(records.end_of_archive(self._entries, size, self._size))


def read_zip(file: BinaryIO, source: str) -> Iterator[Chunk]:
    """The images in a zip archive of PNG files, named by their indices and with nothing between them.

    Raises DataError.
    """
    with cannot_read(source), zipfile.ZipFile(file) as archive:
        yield from in_chunks(_pictures(archive, source), source)


def _pictures(archive: zipfile.ZipFile, source: str) -> Iterator[tuple[int, ByteImages]]:
    end = 0
    for member in archive.infolist():
        index, suffix = index_and_suffix(member.filename, source)
        if suffix != "png":
            raise DataError(f"{source} holds {member.filename}, which is no picture")
        if member.header_offset != end:
            raise DataError(f"{source} holds something before {member.filename} that its directory does not list")
        if member.compress_type != zipfile.ZIP_STORED:  # a megabyte can unpack to gigabytes
            raise DataError(f"{source} holds {member.filename} compressed once more; PNG files are stored as they are")
        yield index, decode_png(archive.read(member), member.filename, source)
        end += records.LOCAL.size + len(member.filename) + member.compress_size
    # A damaged directory can hide its last entries from zipfile, which does not count them.
    if archive.start_dir != end:
        raise DataError(f"{source} holds something after its pictures that its directory does not list")
