"""Locks on files, which end with the process that holds them, however it ends."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from vae_gen.files import when_free

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]
    import msvcrt

PAUSE = 0.05  # seconds between two tries on Windows, where waiting ends after ten


def acquire(path: Path, wait: bool) -> int:
    """The file at `path`, made if need be, open and locked by this process.

    Raises BlockingIOError if another has locked it, unless to `wait`; OSError if that cannot be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            _lock(file, wait)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), path.stat()):
                    return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # its last owner has removed it meanwhile


def release(path: Path, file: int) -> None:
    """Unlock what `acquire` has locked, and remove it."""
    if fcntl is not None:
        path.unlink(missing_ok=True)  # first, so that nobody locks what is about to go
        os.close(file)
        return
    os.close(file)  # first, as what is open cannot be removed
    with suppress(OSError):  # nor what another process has opened meanwhile
        when_free(path.unlink)


def _lock(file: int, wait: bool) -> None:
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    while True:
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            return
        except PermissionError as error:
            if not wait:
                raise BlockingIOError(*error.args) from error
        time.sleep(PAUSE)
