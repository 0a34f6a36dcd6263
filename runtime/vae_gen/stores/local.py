"""Results in a local directory."""

from __future__ import annotations

import errno
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vae_gen.errors import DataError, OutputError
from vae_gen.files import ABSENT, PARTIAL, partial_label, partial_name, remove_tree, when_free, whole_file
from vae_gen.stores.locks import acquire, release

LOCK = "lock.0-0.partial"  # ends the names of lock files, which are hidden, and which `sweep` keeps
OF_FILE_MANAGERS = re.compile(r"\.DS_Store|\._.*|desktop\.ini|Thumbs\.db", re.DOTALL | re.IGNORECASE)
TOP = "images"  # what the top is called in temporary names
NEW_FILE = os.O_CREAT | os.O_WRONLY | os.O_EXCL | getattr(os, "O_BINARY", 0)
NOTHING_THERE = (FileNotFoundError, NotADirectoryError)


class LocalFolder:
    """Files made in the directory `stage`; messages call it `target`."""

    def __init__(self, stage: Path, target: Path) -> None:
        self._prefix, self._target = f"{stage}{os.sep}", str(target)

    def write(self, name: str, content: bytes) -> None:
        try:
            if "/" in name:
                os.mkdir(self._prefix + os.path.dirname(name))  # noqa: PTH102, PTH120
            file = os.open(self._prefix + name, NEW_FILE, 0o666)
            try:
                written = os.write(file, content)
                while written < len(content):
                    written += os.write(file, memoryview(content)[written:])
            finally:
                os.close(file)
        except OSError as error:
            raise OutputError(f"cannot write {self._target}{os.sep}{name}: {error.strerror or error}") from error


@dataclass(frozen=True)
class LocalStore:
    """Results in the directory `root`, which is made when the first is written. See Store.

    Each is written beside its place, under a hidden name that ends in .partial, and renamed.
    """

    root: str

    def path(self, name: str) -> str:
        return str(Path(self.root, name))

    def is_new(self) -> bool:
        return not os.path.lexists(self.root or os.curdir)

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        path = Path(self.root, name)
        self._make(path.parent, name)
        with whole_file(path) as partial, partial.open("xb") as file:
            yield file

    @contextmanager
    def create_folder(self, name: str, label: str = "") -> Iterator[LocalFolder]:
        target = Path(self.root, name)
        whole = bool(name) or self.is_new()  # one rename publishes a folder that nobody else uses
        self._make(target.parent if whole else target, name)
        if not target.is_dir() and os.path.lexists(target):
            raise OutputError(f"cannot write to {target}: it is a file; give the name of a folder")
        stage = target.with_name(partial_name(target.name)) if whole else target / partial_name(label or TOP)
        try:
            stage.mkdir()
            yield LocalFolder(stage, target)
            if name:
                _replace_folder(stage, target)
            elif whole:
                when_free(stage.rename, target)
            else:
                for entry in sorted(stage.iterdir()):
                    when_free(entry.replace, target / entry.name)
        except OSError as error:
            if whole and not name and target.is_dir():
                raise OutputError(f"cannot write to {target}: another process has made it meanwhile") from error
            raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
        finally:
            remove_tree(stage, ignore_errors=True)

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        try:
            with Path(self.root, name).open("rb") as file:
                yield file
        except OSError as error:
            raise DataError(f"cannot read {self.path(name)}: {error.strerror or error}") from error

    def names(self, folder: str = "") -> list[str]:
        try:
            there = os.listdir(Path(self.root, folder))  # noqa: PTH208
        except NOTHING_THERE:
            return []
        except OSError as error:
            raise DataError(f"cannot read {self.path(folder)}: {error.strerror or error}") from error
        return sorted(name for name in there if not (PARTIAL.fullmatch(name) or OF_FILE_MANAGERS.fullmatch(name)))

    def holds(self, name: str) -> bool:
        try:
            os.lstat(Path(self.root, name))
        except OSError as error:
            if error.errno in (*ABSENT, errno.ENAMETOOLONG):
                return False
            raise DataError(f"cannot read {self.path(name)}: {error.strerror or error}") from error
        return True

    def remove(self, name: str) -> None:
        target = Path(self.root, name)
        try:
            if not target.is_dir() or target.is_symlink():
                when_free(target.unlink)
            elif name:
                _remove_folder(target)
            else:
                remove_tree(target)
        except NOTHING_THERE:
            pass
        except OSError as error:
            raise OutputError(f"cannot remove {target}: {error.strerror or error}") from error

    def sweep(self, names: Iterable[str]) -> None:
        labels = defaultdict(set)
        for name in names:
            folder, _, file = name.rpartition("/")
            labels[Path(self.root, folder) if folder else Path(self.root)].add(partial_label(file) if file else TOP)
            if not name:  # a new top is made beside its place, and locked there
                top = partial_label(Path(self.root).name)
                labels[Path(self.root).parent] |= {top} if self.is_new() else {top, f"{top}.lock"}
        for place, ours in labels.items():
            try:
                for entry in list(place.iterdir()):
                    match = PARTIAL.fullmatch(entry.name)
                    if match and match[1] in ours:
                        # Windows removes no lock that is held, as this process may hold it.
                        with suppress(PermissionError) if entry.name.endswith(LOCK) else nullcontext():
                            _discard(entry)
            except NOTHING_THERE:
                pass
            except OSError as error:
                raise OutputError(f"cannot clear {place}: {error.strerror or error}") from error

    @contextmanager
    def lock(self, name: str, wait: bool = False, beside: bool = False) -> Iterator[None]:
        top = Path(self.root)
        path = top.with_name(f".{partial_label(top.name)}.{LOCK}") if beside else top / f".{partial_label(name)}.{LOCK}"
        try:
            file = acquire(path, wait)
        except BlockingIOError as error:
            raise OutputError(
                f"another process is at work on {self.path(name)}; wait for it, or choose another --out"
            ) from error
        except OSError:  # what is wrong here is wrong for all that is to be written, which says so better
            file = None
        try:
            yield
        finally:
            if file is not None:
                release(path, file)

    def _make(self, folder: Path, name: str) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            for above in (folder, *folder.parents):
                if not above.is_dir() and os.path.lexists(above):
                    raise OutputError(
                        f"cannot write to {folder}: {above} is a file; give the name of a folder"
                    ) from error
            raise OutputError(f"cannot write {self.path(name)}: {error.strerror or error}") from error


def _replace_folder(stage: Path, target: Path) -> None:
    while True:  # another process may publish the same name between the two renames
        try:
            when_free(stage.rename, target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        with suppress(FileNotFoundError):
            _remove_folder(target)


def _remove_folder(target: Path) -> None:
    # Out of sight first, so that nobody sees half of it.
    aside = when_free(target.rename, target.with_name(partial_name(target.name)))
    remove_tree(aside)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        when_free(path.unlink, missing_ok=True)
