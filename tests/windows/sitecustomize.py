"""Python imports this by itself where its folder is in PYTHONPATH, and the process then meets much of what Windows is.

There are no fcntl, resource, descriptors of folders, affinity masks, SIGHUP and signal masks; locks are msvcrt's. Below
the folder that the process begins in, files that any process has open or mapped can be neither replaced, renamed nor
removed, nor can folders that hold such files; and a virus scanner looks at everything new for a while.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import signal
import subprocess  # first: where there is msvcrt it takes itself to be on Windows
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SHARING_VIOLATION = 32
HERE = os.path.realpath(os.curdir)
SCANNING = 0.05  # seconds
open_here, listdir, readlink = os.open, os.listdir, os.readlink


class InUseError(PermissionError):
    winerror = SHARING_VIOLATION

    def __init__(self, path: str) -> None:
        super().__init__(13, "The process cannot access the file because it is being used by another process", path)


def held() -> Iterator[str]:
    """The paths of all files that a process has open or mapped."""
    for process in filter(str.isdigit, listdir("/proc")):
        try:
            for descriptor in listdir(f"/proc/{process}/fd"):
                yield readlink(f"/proc/{process}/fd/{descriptor}")
            with Path(f"/proc/{process}/maps").open(encoding="utf-8", errors="surrogateescape") as maps:
                yield from (line.rstrip("\n").split(maxsplit=5)[5] for line in maps if line.count("/"))
        except OSError:  # it has ended, or closed the file
            continue


def check_free(path: str) -> None:
    whole = os.path.realpath(path)
    if not whole.startswith(f"{HERE}/") or not os.path.lexists(path):
        return
    if time.time() - os.lstat(path).st_ctime < SCANNING:
        raise InUseError(path)
    if any(other == whole or other.startswith(f"{whole}/") for other in held()):
        raise InUseError(path)


def watched(change: Callable[..., Any], moves: bool) -> Callable[..., Any]:
    def called(path: Any, *arguments: Any, **others: Any) -> Any:
        paths = [os.fspath(path), *(os.fspath(target) for target in arguments[:1] if moves)]
        for each in paths:
            check_free(each)
        if moves and Path(paths[1]).is_dir():
            raise FileExistsError(17, "Cannot create a file when that file already exists", *paths)
        return change(path, *arguments, **others)

    return called


def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    if not isinstance(path, int) and Path(os.fsdecode(path)).is_dir():
        raise PermissionError(13, "Permission denied", path)
    return open_here(path, flags, mode, dir_fd=dir_fd)


def locking(file: int, mode: int, size: int) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, size)
    except BlockingIOError:
        raise PermissionError(13, "Permission denied") from None


msvcrt = types.ModuleType("msvcrt")
msvcrt.locking, msvcrt.LK_NBLCK = locking, 2  # type: ignore[attr-defined]
assert subprocess
sys.modules["msvcrt"] = msvcrt
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None  # type: ignore[assignment]
for owner, names in ((os, ["sched_getaffinity"]), (signal, ["SIGHUP", "SIGKILL", "pthread_sigmask"])):
    for name in names:
        delattr(owner, name)
os.supports_dir_fd = set()
os.open = opened
for name, moves in itertools.chain(
    ((name, True) for name in ("rename", "replace")), ((name, False) for name in ("remove", "rmdir", "unlink"))
):
    setattr(os, name, watched(getattr(os, name), moves))
