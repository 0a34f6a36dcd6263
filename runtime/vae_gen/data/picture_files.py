"""Which files there are in a folder, which of them are pictures, and how those are named that cannot be read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from PIL import Image

from vae_gen.defaults import FIGURE
from vae_gen.errors import DataError

NAMED = 10  # unreadable files that a message names
NO_PICTURE = "not in a picture format that Pillow can read"
MOST_WITHOUT_SUFFIX = 1 << 26  # bytes
RECOGNISED_ONLY = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF"}  # Pillow has no decoder for them


def picture_suffixes() -> set[str]:
    """The suffixes, in lower case and with their dots, of the files that Pillow can decode."""
    kinds = Image.registered_extensions().items()
    return {suffix for suffix, kind in kinds if kind in Image.OPEN and kind not in RECOGNISED_ONLY}


def may_be_picture(name: str, size: int, suffixes: set[str]) -> bool:
    """Whether a file of this name and size in bytes may be a picture: one that is so called, or has no suffix.

    Of the latter, huge ones are none: what lies in an archive is read whole before Pillow knows what it is.
    """
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in suffixes or (not suffix and size <= MOST_WITHOUT_SUFFIX)


@contextmanager
def opened(file: Path | BinaryIO) -> Iterator[Image.Image]:
    """The picture, without Pillow's warnings of odd files, and of large ones that are not yet refused."""
    with warnings.catch_warnings(action="ignore"), Image.open(file) as picture:
        yield picture


def is_picture(path: Path, suffixes: set[str]) -> bool:
    """Whether a file in a folder is a picture: one that is so called and is no figure, or any that Pillow opens."""
    suffix = path.suffix.lower()
    if suffix and suffix not in suffixes:
        return False
    try:
        with opened(path) as picture:
            return not is_figure(picture)
    except Exception:  # what a decoder raises on damaged input can be anything
        return bool(suffix)  # reading it will say what is wrong


def is_figure(picture: Image.Image) -> bool:
    """Whether the picture says of itself that vae-gen has drawn it: a sheet, a curve or an animation."""
    said = (picture.info.get(key, "") for key in ("Comment", "comment", "exif"))  # of PNG, GIF and WebP
    return any(FIGURE in (each.decode("latin-1") if isinstance(each, bytes) else str(each)) for each in said)


def unreadable(reasons: Sequence[str], where: str = "") -> str:
    """A message of files that cannot be read, by the reasons, which name them; of many, the first."""
    shown = sorted(reasons)[:NAMED]
    more = [f"  and {len(reasons) - len(shown)} more"] if len(reasons) > len(shown) else []
    files = f"{len(reasons)} file{'' if len(reasons) == 1 else 's'}{where} that cannot be read:"
    return "\n".join([files, *(f"  {reason}" for reason in shown), *more])


def check_readable(reasons: Sequence[str], skip_bad: bool, where: str = "") -> None:
    """Raise DataError if there are files that cannot be read, unless they are to be left out."""
    if reasons and not skip_bad:
        raise DataError(f"found {unreadable(reasons, where)}\nRepair or remove them, or leave them out with --skip-bad")


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
