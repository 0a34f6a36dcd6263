"""Which arrays in a folder hold a run's latents, and not images: what the manifests beside them say of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from vae_gen.generator.parts import LATENTS, STATE, manifest_beside

MANIFESTS = ("manifest.json", "manifest.*.json", f"{STATE}/run*.json")  # of a run in the folder, whole or unfinished
NAME = re.compile(rf"(?:(?P<folder>.*)/)?(?:(?P<stem>[^/]*)\.)?{re.escape(LATENTS)}", re.DOTALL)


def latents_among(folder: Path, names: Iterable[str]) -> set[str]:
    """Which of these files in the folder, and in those below it, hold the latents of a run beside them.

    Whoever has a latents.npy of their own, and no such manifest, may have images in it.
    """
    stems = cache(_stems_with_latents)  # for this call alone: a run may go on
    found = filter(None, map(NAME.fullmatch, names))
    return {match.string for match in found if stems(folder / (match["folder"] or "")) & {"", match["stem"]}}


def _stems_with_latents(folder: Path) -> set[str]:
    """How the latents' names begin that runs have written there; "" stands for all beginnings, of a run in parts."""
    if any(_has_latents(manifest) for pattern in MANIFESTS for manifest in folder.glob(pattern)):
        return {""}
    of_files = folder.glob(manifest_beside("*"))  # a.npy.manifest.json, beside a.npy and a.latents.npy
    return {manifest.name.rsplit(".", 3)[0] for manifest in of_files if _has_latents(manifest)}


def _has_latents(manifest: Path) -> bool:
    """Whether it is a run's, and says that its latents were written."""
    try:
        values = json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and "decoder_sha256" in values and bool(values.get("latents"))
