"""Runs that are slow enough to be stopped in their midst, and what they have published by then."""

from __future__ import annotations

from pathlib import Path

from tests.runs import tree


def published(folder: str) -> dict[str, bytes]:
    """The files under their final names: not those of the run's state, nor in what is hidden as unfinished."""
    return {
        name: content for name, content in tree(folder).items() if not any(part[0] == "." for part in Path(name).parts)
    }


# A small batch makes the runs slow enough to be killed in their midst.
SLOW = ("--seed", 3, "--batch-size", 2, "--threads", 1)
RUNS = {
    "png": ("--indices", "0-1999,10000-11999,20000-21999,30000-31999,40000-42000", *SLOW),
    **{
        kind: ("--n", 3_000, *SLOW, "--format", kind, "--shard-size", 250, "--latents")
        for kind in ("npy", "npz", "tar", "zip", "idx")
    },
}
