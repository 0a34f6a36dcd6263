"""How many processors this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """The number of processors by affinity mask and cgroup quota (versions 1 and 2), at least 1."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cpus, math.floor(_cgroup_quota() or cpus)))


def _cgroup_quota() -> float | None:
    """Processors' worth of time that the tightest control group around it grants; None without a limit."""
    quotas = [quota for folder in _cgroup_folders() if (quota := _read_quota(folder))]
    return min(quotas, default=None)


def _cgroup_folders() -> list[Path]:
    """This process's group in each hierarchy, and every group around it."""
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:  # "0::/path" in version 2, "4:cpu,cpuacct:/path" in version 1
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / "cpu" if controllers else CGROUPS
        group = root / path.lstrip("/")
        folders += [folder for folder in (group, *group.parents) if folder.is_relative_to(root)]
    return folders


def _read_quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            limit, period = (folder / "cpu.max").read_text().split()
        else:
            limit = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError):  # no such file, or "max"
        return None
