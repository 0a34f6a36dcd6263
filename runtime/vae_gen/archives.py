"""The files in other people's zip and tar archives."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import BinaryIO, Protocol

from vae_gen.errors import DataError
from vae_gen.idx import open_unpacked
from vae_gen.image_arrays import ZIP_MAGIC

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257


class Archive(Protocol):
    """An open archive: the size in bytes of each file in it, by name and in their order, and what they hold."""

    sizes: dict[str, int]

    def read(self, name: str) -> bytes:
        """What a file holds, from any thread. Whatever is wrong with it is raised."""


@contextmanager
def open_archive(path: Path) -> Iterator[Archive | None]:
    """The zip or tar archive at `path`, the latter gzipped or not; None if it is neither.

    Raises OSError, and DataError for one that is damaged or cut.
    """
    with open_unpacked(path) as file:
        if isinstance(file, gzip.GzipFile):
            with TemporaryFile() as unpacked:  # where all is near at hand
                shutil.copyfileobj(file, unpacked)
                yield archive_in(unpacked, path)
        else:
            yield archive_in(file, path)


def archive_in(file: BinaryIO, path: Path) -> Archive | None:
    """The zip or tar archive that `file` is, which `open_unpacked` makes of `path`; None if it is neither.

    Raises DataError for one that is damaged or cut.
    """
    file.seek(0)
    start = file.read(TAR_MAGIC_AT + len(TAR_MAGIC))
    file.seek(0)
    try:
        if start.startswith(ZIP_MAGIC):
            return _Zip(zipfile.ZipFile(file))
        return _Tar(file) if start.endswith(TAR_MAGIC) else None
    except (zipfile.BadZipFile, tarfile.TarError, NotImplementedError, ValueError) as error:
        raise DataError(f"cannot read {path} as an archive: {error}") from error


class _Zip:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.sizes = {
            member.filename: member.file_size
            for member in archive.infolist()
            if not member.is_dir() and _is_shown(member.filename)
        }

    def read(self, name: str) -> bytes:
        return self._archive.read(name)


class _Tar:
    def __init__(self, file: BinaryIO) -> None:
        self._file, self._lock = file, threading.Lock()
        self._starts: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                # Of millions of files, no more is kept than where they are.
                archive.members.clear()  # type: ignore[attr-defined]
                if member.isreg() and _is_shown(member.name):
                    self._starts[member.name], self.sizes[member.name] = member.offset_data, member.size
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes anything for the end
                raise tarfile.ReadError("it is damaged or cut, and does not end as tar archives do")

    def read(self, name: str) -> bytes:
        with self._lock:
            self._file.seek(self._starts[name])
            return self._file.read(self.sizes[name])


def _is_shown(name: str) -> bool:
    return not any(part.startswith(".") and part != "." for part in PurePosixPath(name).parts)
