"""Which files are pictures, and which files there are in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

RECOGNISED_ONLY = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF"}  # Pillow has no decoder for them


def picture_suffixes() -> set[str]:
    """The suffixes, in lower case and with their dots, of the files that Pillow can decode."""
    kinds = Image.registered_extensions().items()
    return {suffix for suffix, kind in kinds if kind in Image.OPEN and kind not in RECOGNISED_ONLY}


def walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file but hidden ones in a folder and in those below it, by its path in the folder, and in that order.

    Links to folders are followed, and no folder is entered twice. Raises OSError.
    """
    yield from _walk(folder, "", set())


def _walk(folder: Path, prefix: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, os.stat_result]]:
    here = folder.stat()
    if (here.st_dev, here.st_ino) in seen and here.st_ino:  # 0 where the file system has no such numbers
        return
    seen.add((here.st_dev, here.st_ino))
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", seen)
        elif entry.is_file():
            yield prefix + entry.name, entry.stat()
        elif entry.is_symlink():
            yield prefix + entry.name, entry.stat(follow_symlinks=False)  # leads nowhere: it is named as unreadable
