"""Writing files so that they are there whole or not at all."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vae_gen.errors import OutputError

_numbers = itertools.count()  # so that no two files of this process share a temporary name


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it becomes `path` if the block succeeds and vanishes if not.

    A link is written through. Raises OutputError, naming `path` and the cause, when anything cannot be
    written, or when `path` is there but is no regular file.
    """
    try:
        target = path.resolve()
        if target.is_dir():
            raise OutputError(f"cannot write {path}: it is a directory; give the name of a file")
        if target.exists() and not target.is_file():
            raise OutputError(f"cannot write {path}: it is a device or a pipe; give the name of a regular file")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    partial = target.with_name(f".{target.name[:32]}.{os.getpid()}-{next(_numbers)}.partial")
    try:
        yield partial
        partial.replace(target)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def make_folder(path: Path) -> None:
    """Make the directory `path` and those above it. Raises OutputError if that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"cannot write to {path}: it is a file; give the name of a directory") from error
    except OSError as error:
        raise OutputError(f"cannot make the directory {path}: {error.strerror or error}") from error
