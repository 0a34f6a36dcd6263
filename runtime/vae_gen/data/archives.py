"""The files in other people's zip and tar archives."""

from __future__ import annotations

import gzip
import io
import posixpath
import shutil
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import BinaryIO, Protocol, cast

from vae_gen.data.image_arrays import ZIP_MAGIC
from vae_gen.errors import DataError
from vae_gen.idx import open_unpacked

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
AT_ONCE = 1 << 20  # bytes
# The record at a zip archive's end (PKWARE's APPNOTE 4.3.16), and where in it stands how many files there are; of more
# than it can say, another record does.
END_OF_ZIP, END_SIZE, COUNT_AT, LONGEST_COMMENT, MORE = b"PK\5\6", 22, 10, 0xFFFF, 0xFFFF


class Archive(Protocol):
    """An archive: the sizes in bytes of the files in it, by name, and what they hold.

    Names are as unpacking makes them, with / between their parts and none of these above the archive. Hidden files are
    left out.
    """

    sizes: dict[str, int]

    def read(self, name: str) -> bytes:
        """What a file holds, from any thread. Whatever is wrong with it is raised."""


@contextmanager
def open_archive(path: Path) -> Iterator[Archive | None]:
    """The zip or tar archive at `path`, gzipped or not; None if it is neither.

    Raises OSError, and DataError for one that is damaged or cut.
    """
    with ExitStack() as stack:
        with open_unpacked(path) as file:  # no longer than this: a thousand shards are more files than may be open
            archive = stack.enter_context(archive_in(file, path))
        yield archive


@contextmanager
def archive_in(file: BinaryIO, path: Path) -> Iterator[Archive | None]:
    """The archive that `file` is, which `open_unpacked` makes of `path`; None if it is none. Raises as above.

    It no longer needs `file` then: for each reading it opens the one at `path`, or what a gzipped one or a pipe has
    been unpacked into.
    """
    file.seek(0)
    start = file.read(TAR_MAGIC_AT + len(TAR_MAGIC))
    file.seek(0)
    kind = _Zip if start.startswith(ZIP_MAGIC) else _Tar if start.endswith(TAR_MAGIC) else None
    if kind is None:
        yield None
        return
    with nullcontext(path) if isinstance(file, io.BufferedReader) else _unpacked(file, path) as place:
        try:
            archive = kind(place)
        except (DataError, OSError, EOFError, zlib.error):
            raise
        except Exception as error:  # what damaged archives make of Python's readers can be anything
            raise DataError(f"cannot read {path} as an archive: {str(error) or type(error).__name__}") from error
        yield archive


@contextmanager
def _unpacked(file: BinaryIO, path: Path) -> Iterator[Path]:
    with ExitStack() as stack:
        try:
            place = Path(stack.enter_context(TemporaryDirectory(prefix="vae-gen-")), "archive")
            with place.open("wb") as unpacked:
                shutil.copyfileobj(file, unpacked, AT_ONCE)
        except gzip.BadGzipFile:
            raise
        except OSError as error:
            where = f"in {gettempdir()}, or in the folder that TMPDIR names,"
            raise DataError(f"cannot unpack {path} {where} for as long as it is read: {error.strerror}") from error
        yield place


class _ZipSource(threading.local):
    """What a ZipFile reads from: in each thread, the file that this one was given last."""

    def give(self, file: io.BufferedReader | io.FileIO) -> None:
        self.read, self.seek, self.tell, self.seekable = file.read, file.seek, file.tell, file.seekable


class _Zip:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._source = _ZipSource()
        with path.open("rb") as file:
            self._source.give(file)
            self._archive = zipfile.ZipFile(cast(BinaryIO, self._source))
            file.seek(0, io.SEEK_END)
            file.seek(max(0, file.tell() - END_SIZE - LONGEST_COMMENT))
            end = file.read()
        listed = self._archive.infolist()
        at = end.rindex(END_OF_ZIP) + COUNT_AT
        count = int.from_bytes(end[at : at + 2], "little")
        if count not in (len(listed) & MORE, MORE):  # a damaged directory can end anywhere, and zipfile does not count
            raise zipfile.BadZipFile(f"it is damaged: its directory lists {len(listed)} of {count} files")
        members = {_plain(member.filename.replace("\\", "/")): member for member in listed if not member.is_dir()}
        self._members = {name: member for name, member in members.items() if _is_shown(name)}
        self.sizes = {name: member.file_size for name, member in self._members.items()}

    def read(self, name: str) -> bytes:
        with self._path.open("rb", buffering=0) as file:
            self._source.give(file)
            return self._archive.read(self._members[name])


class _Tar:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        links: dict[str, str] = {}
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                # Of millions of files, no more is kept than where they are.
                archive.members.clear()  # type: ignore[attr-defined]
                name = _plain(member.name)
                if member.size < 0 or member.issparse():
                    raise tarfile.ReadError(f"{member.name} is damaged, or is sparse; unpack it into a folder")
                links.pop(name, None)
                if member.isreg():
                    self._starts[name], self.sizes[name] = member.offset_data, member.size
                elif member.islnk():
                    links[name] = _plain(member.linkname)
                elif member.issym():
                    links[name] = _plain(posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname)))
            file.seek(archive.offset)
            ends = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)  # tarfile takes anything for the end
            while ends and (content := file.read(AT_ONCE)):
                ends = not content.strip(b"\0")
        if not ends:
            raise tarfile.ReadError("it is damaged or cut, or goes on after its end")
        for name in links:
            followed, target = set(), name
            while target in links and target not in followed:
                followed.add(target)
                target = links[target]
            # One that leads nowhere in the archive is as an empty file.
            self._starts[name], self.sizes[name] = self._starts.get(target, 0), self.sizes.get(target, 0)
        self.sizes = {name: size for name, size in self.sizes.items() if _is_shown(name)}

    def read(self, name: str) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._starts[name])
            return file.read(self.sizes[name])


def _plain(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", ".", ".."))


def _is_shown(name: str) -> bool:
    return bool(name) and not any(part.startswith(".") for part in name.split("/"))
