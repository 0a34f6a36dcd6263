"""Writing files so that they are there whole or not at all, and reading no more than is there."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

from vae_gen.errors import OutputError

P = ParamSpec("P")
T = TypeVar("T")

PARTIAL = re.compile(r"\.(.+)\.\d+-\d+\.partial", re.DOTALL)  # group 1: what `partial_label` says
NO_TEXT = re.compile("[\ud800-\udfff]")  # what Python makes of such bytes
LONGEST_NAME = 255  # bytes that a file's name may have, on all usual file systems
LONGEST_LABEL = 200  # bytes; with the numbers it stays below that

PIECE = 1 << 20  # bytes that are read at a time
# A link to itself leads nowhere, and Windows calls a name invalid that no file can have, such as *.png.
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)
IN_USE = (5, 32, 33, 1224)  # Windows' errors: access denied, a sharing or a lock violation, a mapped file
PAUSES = (0.02, 0.05, 0.13, 0.3, 0.5, 1.0)  # seconds

# So that no two temporary names are alike: not in this process, and not in two containers that share a disk and,
# each within its own, a process number.
_numbers = itertools.count(int.from_bytes(os.urandom(4)))


def as_text(path: Path | str) -> str:
    """A path as text that can be written anywhere: bytes of it that are no text become U+FFFD."""
    return NO_TEXT.sub("\ufffd", str(path))


def partial_label(name: str) -> str:
    """What stands for the file `name` in its temporary names; differs for different names."""
    if len(os.fsencode(name)) <= LONGEST_LABEL:
        return name
    return f"{name[:32]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"


def partial_name(name: str) -> str:
    """A temporary name, hidden and never given before, for what will be `name` in the same folder."""
    return f".{partial_label(name)}.{os.getpid()}-{next(_numbers)}.partial"


def is_there(path: Path) -> bool:
    """Whether there is something at `path`, as `Path.exists` says it up to Python 3.13; later ones never raise.

    Raises OSError, naming the path and the cause, where nobody can tell: a folder may not be searched, a disk is gone.
    """
    try:
        path.stat()
    except OSError as error:
        if error.errno in ABSENT:
            return False
        raise
    except ValueError:  # a NUL, which no file's name has
        return False
    return True


def real_path(path: Path) -> Path:
    """Where all links lead, whether or not something is there. Raises OutputError if one leads to itself."""
    found = Path(os.path.realpath(path))  # Path.resolve raises up to Python 3.12, and no longer
    if found.is_symlink():
        raise OutputError(f"cannot write {path}: it is a link that leads to itself")
    return found


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it becomes `path` if the block succeeds and vanishes if not.

    A link is written through. Raises OutputError, naming `path` and the cause, when anything cannot be
    written, or when `path` is there but is no regular file.
    """
    try:
        target = real_path(path)
        if target.is_dir():
            raise OutputError(f"cannot write {path}: it is a directory; give the name of a file")
        if target.exists() and not target.is_file():
            raise OutputError(f"cannot write {path}: it is a device or a pipe; give the name of a regular file")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    partial = target.with_name(partial_name(target.name))
    try:
        yield partial
        when_free(partial.replace, target)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def when_free(change: Callable[P, T], *arguments: P.args, **others: P.kwargs) -> T:
    """What `change` gives, which renames, replaces or removes something.

    On Windows nobody can as long as a virus scanner or an indexer has the file open: it is tried again for two seconds.
    """
    for pause in PAUSES:
        try:
            return change(*arguments, **others)
        except PermissionError as error:
            if getattr(error, "winerror", None) not in IN_USE:
                raise
            time.sleep(pause)
    return change(*arguments, **others)


def remove_tree(folder: Path, ignore_errors: bool = False) -> None:
    """Remove a folder and all in it. Raises OSError, unless errors are to be ignored."""
    with suppress(OSError):  # most are empty by now
        folder.rmdir()
        return
    import shutil  # it brings a reader of every archive format along

    try:
        when_free(shutil.rmtree, folder)
    except OSError:
        if not ignore_errors:
            raise
        shutil.rmtree(folder, ignore_errors=True)  # all the rest


def make_folder(path: Path) -> None:
    """Make the directory `path` and those above it. Raises OutputError if that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        # Windows says it of folders above `path` too.
        raise OutputError(f"cannot write to {error.filename}: it is a file; give the name of a directory") from error
    except OSError as error:
        raise OutputError(f"cannot make the directory {path}: {error.strerror or error}") from error


def read_up_to(file: IO[bytes], size: int) -> bytes:
    """The next `size` bytes, or those that are left; memory is taken only for what is there."""
    pieces = []
    while size and (piece := file.read(min(size, PIECE))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
