"""How much memory there is, and how that of tensors is allocated."""

from __future__ import annotations

import ctypes
import math
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGEST_KEPT = 2**30  # bytes; with larger tensors in the heap, the gaps between them take too much


def physical_memory() -> float:
    """The bytes of this machine's memory; infinite where the system does not say."""
    if sys.platform == "win32":
        status = (ctypes.c_uint64 * 8)(64)  # a MEMORYSTATUSEX, which begins with its size; next is what we ask for
        return status[1] if ctypes.windll.kernel32.GlobalMemoryStatusEx(status) else math.inf
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return math.inf


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for what it allocates next.

    A step frees and allocates what the one before did. By itself, glibc gives much of that back to the system, which
    clears every page anew; docs/training.md says what that takes. Another C library is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, -1)  # what is free at the end of the heap stays
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)  # what is smaller lies in the heap
