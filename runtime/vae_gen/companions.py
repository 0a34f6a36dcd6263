"""What a run writes beside its images, and which is none of them: the contact sheet and the latents."""

from __future__ import annotations

import glob
import json
from pathlib import Path

from vae_gen.parts import GRID, LATENTS, STATE

COMPANIONS = {GRID: "grid", LATENTS: "latents"}  # by the end of its name, the key by which a manifest speaks of it
MANIFESTS = ("manifest.json", "manifest.*.json", f"{STATE}/run*.json")  # of a run in the folder, whole or unfinished


def is_companion(folder: Path, name: str) -> bool:
    """Whether the file `name` in the folder, or in one below it, is what a manifest beside it calls no image.

    Whoever has a grid.png of their own, and no such manifest, has a picture.
    """
    end = next((end for end in COMPANIONS if name.endswith(end)), None)
    if end is None:
        return False
    path = folder / name
    stem = path.name.removesuffix(end)  # of a run's only file, and a dot; or the number of a part
    patterns = [*MANIFESTS, f"{glob.escape(stem)}*.manifest.json"] if stem else MANIFESTS
    return stem[-1:] in ("", ".") and any(
        _says(manifest, COMPANIONS[end]) for pattern in patterns for manifest in path.parent.glob(pattern)
    )


def _says(manifest: Path, key: str) -> bool:
    """Whether it is a run's, and says that there is such a file."""
    try:
        values = json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and "decoder_sha256" in values and bool(values.get(key))
