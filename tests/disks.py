"""File systems in memory, for tests that fill one or write more files than a disk takes quickly."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def _can_mount() -> bool:
    """Whether this process has Linux's CAP_SYS_ADMIN, which root in a container may lack."""
    if sys.platform != "linux":
        return False
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.M)
    return found is not None and bool(int(found[1], 16) >> 21 & 1)


CAN_MOUNT = _can_mount()


@contextlib.contextmanager
def disk_in_memory(folder: str | Path, size: str) -> Iterator[None]:
    """A new folder that holds `size` (as "400k"), while the context lasts; where it cannot be made, a skip."""
    if not CAN_MOUNT:
        pytest.skip("this process may not mount a file system")
    Path(folder).mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: str | Path, options: str) -> None:
    """Change a disk in memory: "size=20m", "ro"."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
