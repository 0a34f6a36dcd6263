"""Which array in a folder holds a run's latents, and not images: what a manifest beside it says of it."""

from __future__ import annotations

import glob
import json
from pathlib import Path

from vae_gen.generator.parts import LATENTS, STATE

MANIFESTS = ("manifest.json", "manifest.*.json", f"{STATE}/run*.json")  # of a run in the folder, whole or unfinished


def holds_latents(folder: Path, name: str) -> bool:
    """Whether the file `name` in the folder, or in one below it, holds the latents of a run beside it.

    Whoever has a latents.npy of their own, and no such manifest, may have images in it.
    """
    if not name.endswith(LATENTS):
        return False
    path = folder / name
    stem = path.name.removesuffix(LATENTS)  # of a run's only file, and a dot; or the number of a part
    patterns = [*MANIFESTS, f"{glob.escape(stem)}*.manifest.json"] if stem else MANIFESTS
    return stem[-1:] in ("", ".") and any(
        _has_latents(manifest) for pattern in patterns for manifest in path.parent.glob(pattern)
    )


def _has_latents(manifest: Path) -> bool:
    """Whether it is a run's, and says that its latents were written."""
    try:
        values = json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and "decoder_sha256" in values and bool(values.get("latents"))
