"""Results at a URL, through fsspec."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from vae_gen.errors import DataError, MissingExtraError, OutputError, UsageError, VaeGenError
from vae_gen.files import PARTIAL, partial_label, partial_name

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

# Here a file appears when its upload is completed, never before; and folders are but a part of names.
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}
PATTERN = "*?["  # fsspec takes a path with one of these for a pattern
BATCH_FILES = 64
BATCH_BYTES = 16 * 2**20
READ_BYTES = 2**20
CAUSES: dict[type[Exception], str] = {
    FileExistsError: "a file is in the way",
    FileNotFoundError: "no such file",
    IsADirectoryError: "it is a folder",
    NotADirectoryError: "a file is in the way",
    PermissionError: "permission denied",
}


@contextmanager
def _as(kind: type[VaeGenError], what: str) -> Iterator[None]:
    # File systems raise what their libraries raise: botocore's errors, aiohttp's, OSError, ValueError.
    try:
        yield
    except VaeGenError:
        raise
    except Exception as error:
        cause = " ".join(str(getattr(error, "strerror", None) or error).split())
        if " " not in cause:  # nothing, or the path
            cause = CAUSES.get(type(error), f"{type(error).__name__} {cause}".strip())
        raise kind(f"{what}: {cause}") from error


class _Upload(io.RawIOBase):
    def __init__(self, file: Any, what: str) -> None:
        self._file = file
        self._what = what
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, content: ReadableBuffer) -> int:
        data = memoryview(content).cast("B")
        with _as(OutputError, self._what):
            self._file.write(data)
        self._written += len(data)
        return len(data)


class _Download(io.RawIOBase):
    def __init__(self, file: Any, what: str) -> None:
        self._file = file
        self._what = what

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        with _as(DataError, self._what):
            content = self._file.read(len(view))
        view[: len(content)] = content
        return len(content)


class RemoteFolder:
    """Files of one folder, written `BATCH_FILES` at once where the file system can."""

    def __init__(self, write: Callable[[dict[str, bytes]], None]) -> None:
        self._write = write
        self._batch: dict[str, bytes] = {}
        self._size = 0

    def write(self, name: str, content: bytes) -> None:
        self._batch[name] = content
        self._size += len(content)
        if len(self._batch) >= BATCH_FILES or self._size >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        batch, self._batch, self._size = self._batch, {}, 0
        if batch:
            self._write(batch)


@dataclass(frozen=True)
class RemoteStore:
    """Results below the URL `root`. See Store. What fsspec should know comes from its own configuration.

    Object stores complete the upload of a file when it is whole. Elsewhere a file gets a hidden name that ends in
    .partial beside its place, and is moved.
    """

    root: str

    def __post_init__(self) -> None:
        if any(sign in self.root for sign in PATTERN):
            raise UsageError(f"cannot write to {self.root}: a URL may have none of {' '.join(PATTERN)} here")
        protocol = self.root.partition("://")[0]
        task = f"writing to {protocol}://"
        try:
            import fsspec
        except ImportError as error:
            raise MissingExtraError(task, "fsspec", "remote", needs="fsspec") from error
        try:
            fsspec.get_filesystem_class(protocol.split("::")[-1])
        except ImportError as error:
            if protocol in ("s3", "s3a"):
                raise MissingExtraError(task, "s3fs", "remote", needs="s3fs") from error
            raise UsageError(f"{task} needs a package that is not installed here: {error}") from error
        except ValueError as error:
            known = ", ".join(fsspec.available_protocols())
            raise UsageError(f"cannot write to {self.root}: unknown protocol {protocol!r}; known: {known}") from error

    def path(self, name: str) -> str:
        if not name:
            return self.root
        return f"{self.root}{name}" if self.root.endswith("/") else f"{self.root}/{name}"

    def is_new(self) -> bool:
        return False

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        what = f"cannot write {self.path(name)}"
        with _as(OutputError, what):
            fs, target = self._find(name)
            direct = _is_object_store(fs)
            if not direct:
                fs.makedirs(fs._parent(target), exist_ok=True)
                if fs.isdir(target):
                    raise OutputError(f"{what}: it is a folder")
            place = target if direct else _partial_beside(target)
            file = fs.open(place, "wb")
        try:
            yield cast(BinaryIO, _Upload(file, what))
            with _as(OutputError, what):
                file.close()
                if not direct:
                    fs.mv(place, target)
        except BaseException:
            with suppress(Exception):
                _discard(fs, file, place, direct)
            raise

    @contextmanager
    def create_folder(self, name: str, label: str = "") -> Iterator[RemoteFolder]:
        def write(contents: dict[str, bytes]) -> None:
            with _as(OutputError, f"cannot write to {self.path(name)}"):
                fs, target = self._find(name)
                if _is_object_store(fs):
                    fs.pipe({f"{target}/{file}": content for file, content in contents.items()})
                    return
            for file, content in contents.items():
                with self.create(f"{name}/{file}" if name else file) as stream:
                    stream.write(content)

        folder = RemoteFolder(write)
        yield folder
        folder.flush()

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        what = f"cannot read {self.path(name)}"
        with _as(DataError, what):
            fs, target = self._find(name)
            file = fs.open(target, "rb")
        try:
            yield cast(BinaryIO, io.BufferedReader(_Download(file, what), READ_BYTES))
        finally:
            file.close()

    def names(self, folder: str = "") -> list[str]:
        with _as(DataError, f"cannot read {self.path(folder)}"):
            fs, target = self._find(folder)
            try:
                there = fs.ls(target, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        start = target.rstrip("/") + "/"
        found = {path.rstrip("/")[len(start) :] for path in there}
        return sorted(name for name in found if name and not PARTIAL.fullmatch(name))

    def holds(self, name: str) -> bool:
        with _as(DataError, f"cannot read {self.path(name)}"):
            fs, target = self._find(name)
            return bool(fs.exists(target))

    def remove(self, name: str) -> None:
        with _as(OutputError, f"cannot remove {self.path(name)}"):
            fs, target = self._find(name)
            with suppress(FileNotFoundError, NotADirectoryError):
                fs.rm(target, recursive=True)

    def sweep(self, names: Iterable[str]) -> None:
        """As in Store. An object store keeps nothing that could be seen: uploads that a killed process left are
        for a rule of the bucket to end.
        """
        labels: dict[str, set[str]] = {}
        for name in names:
            folder, _, file = name.rpartition("/")
            labels.setdefault(folder, set()).add(partial_label(file))
        for folder, ours in labels.items():
            with _as(OutputError, f"cannot clear {self.path(folder)}"):
                fs, target = self._find(folder)
                if _is_object_store(fs):
                    return
                with suppress(FileNotFoundError, NotADirectoryError):
                    for path in fs.ls(target, detail=False):
                        match = PARTIAL.fullmatch(path.rpartition("/")[2])
                        if match and match[1] in ours:
                            fs.rm_file(path)

    def lock(self, name: str, wait: bool = False, beside: bool = False) -> AbstractContextManager[None]:
        return nullcontext()

    def _find(self, name: str) -> tuple[Any, str]:
        """The file system, as it is now and in this process, and the path of `name` in it."""
        from fsspec.core import url_to_fs

        fs, path = url_to_fs(self.path(name))  # fsspec keeps one for each process
        fs.invalidate_cache(path)  # other processes write, too
        return fs, path


def _is_object_store(fs: Any) -> bool:
    protocols = fs.protocol if isinstance(fs.protocol, tuple | list) else [fs.protocol]
    return not OBJECT_STORES.isdisjoint(protocols)


def _partial_beside(target: str) -> str:
    folder, separator, name = target.rpartition("/")
    return f"{folder}{separator}{partial_name(name)}"


def _discard(fs: Any, file: Any, place: str, direct: bool) -> None:
    if not direct:
        file.close()
        fs.rm_file(place)
        return
    try:
        if hasattr(file, "discard"):
            file.discard()
    finally:
        file.closed = True  # or its end as garbage would close it, which publishes it
