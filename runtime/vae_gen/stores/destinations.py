"""What --out and --format say together: which store, which file in it, which format."""

from __future__ import annotations

import os
from dataclasses import dataclass

from vae_gen.defaults import FORMATS
from vae_gen.errors import UsageError, unknown_format

STDOUT = "-"
STREAMED = ("npy", "tar", "png")  # what can be read from a pipe
# Names that promise another file than is written; nobody wants a folder that is called so.
PICTURE_SUFFIXES = (".apng", ".bmp", ".gif", ".jpeg", ".jpg", ".tif", ".tiff", ".webp")
LISTED = ", ".join(f".{name}" for name in FORMATS)
COMPRESSED_SUFFIXES = (".7z", ".bz2", ".gz", ".tgz", ".xz", ".zst")


@dataclass(frozen=True)
class Destination:
    """Where images go, and as what."""

    root: str  # of the store
    file: str  # the name of the only file in it; "" for a folder of parts
    format: str


def destination(out: str, format: str | None) -> Destination:
    """What `out` names and the format it is to have, by its name if not by `format`.

    A name that ends as its format does is that file; any other, or one with / behind it, is a folder. Raises UsageError
    if the two disagree.
    """
    if format is not None and format not in FORMATS:
        raise unknown_format(format)
    if out == STDOUT:
        if format not in STREAMED:
            raise UsageError("--out - needs --format npy or tar, which can be read from a pipe, or for one image png")
        return Destination(out, out, format)
    top, path = _top_and_path(out)
    is_folder = path.endswith("/")
    path = path.rstrip("/") or path[:1]
    if is_folder:
        return Destination(top + path, "", format or "png")
    root, slash, name = path.rpartition("/")
    root = top + (root or slash)
    if name.lower().endswith(PICTURE_SUFFIXES):
        raise UsageError(
            f"{out} names a picture of a kind that is not written: images are PNG files. Give a folder, or a file that "
            f"ends in {LISTED}"
        )
    if name.lower().endswith(COMPRESSED_SUFFIXES):
        raise UsageError(
            f"{out} names a compressed file, and none is written: PNG files are compressed already. Give a folder, or "
            f"a file that ends in {LISTED}"
        )
    for known in FORMATS:
        suffix = f".{known}"
        if name.lower() == suffix:
            raise UsageError(f"{out} has no name before {suffix}; write, for example, images{suffix}")
        if name.lower().endswith(suffix):
            if format not in (None, known):
                raise UsageError(
                    f"{out} names a file of the format {known}, and --format is {format}; give one of them"
                )
            return Destination(root, name, known)
    return Destination(top + path, "", format or "png")


def _top_and_path(out: str) -> tuple[str, str]:
    """What --out begins with, s3:// or on Windows C:, and the path below it, with / between its folders."""
    scheme, mark, path = out.rpartition("://")
    if mark:
        return scheme + mark, path
    drive, path = os.path.splitdrive(out)  # no drive but on Windows
    return drive, path.replace(os.sep, "/")
