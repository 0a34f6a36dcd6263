"""File systems in memory, for tests that fill one or write more files than a disk takes quickly."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CAN_MOUNT = sys.platform == "linux" and os.geteuid() == 0


@contextlib.contextmanager
def disk_in_memory(folder: str | Path, size: str) -> Iterator[None]:
    """A new folder that holds `size` (as "400k"), while the context lasts; where only root could make it, a skip."""
    if not CAN_MOUNT:
        pytest.skip("only root can mount a file system, and this way only on Linux")
    Path(folder).mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: str | Path, options: str) -> None:
    """Change a disk in memory: "size=20m", "ro"."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
