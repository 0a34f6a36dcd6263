"""Where images go. A writer takes chunks of images in the order of their indices.

with open_writer(out, "png", count=100, image_shape=(1, 28, 28)) as writer:
    writer.write(0, images)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from vae_gen.defaults import FORMATS, INDEX_DIGITS
from vae_gen.errors import OutputError, UsageError
from vae_gen.files import make_folder, whole_file
from vae_gen.images import ByteImages
from vae_gen.png import encode_png

NUMBERED = re.compile(rf"\d{{{INDEX_DIGITS},}}\.png")
# Names that promise a file; nobody wants a folder that is called so.
FILE_SUFFIXES = {".gif", ".jpeg", ".jpg", ".npy", ".npz", ".png", ".tar", ".webp", ".zip"}


class Writer(Protocol):
    def write(self, first: int, images: ByteImages) -> None:
        """Write the images [n, C, H, W] with the indices first ... first + n - 1."""


def format_of(out: Path) -> str:
    """The format that the name of an output suggests."""
    return "npy" if out.suffix.lower() == ".npy" else "png"


@contextmanager
def open_writer(
    out: Path, format: str, count: int, image_shape: tuple[int, int, int], overwrite: bool = False
) -> Iterator[Writer]:
    """A writer for `count` images. What it writes is complete only when the block ends.

    png: a folder `out` of files named by index. npy: one file `out`, uint8 [count, C, H, W].
    With `overwrite`, the file is replaced, or the numbered pictures in the folder are removed first.
    Raises UsageError if `out` does not fit the format, OutputError if it cannot be written or already holds
    something.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
    open_format = _open_folder if format == "png" else _open_npy
    with open_format(out, count, image_shape, overwrite) as writer:
        yield writer


@contextmanager
def _open_folder(out: Path, _count: int, _image_shape: tuple[int, int, int], overwrite: bool) -> Iterator[Writer]:
    if out.suffix.lower() in FILE_SUFFIXES:
        raise UsageError(f"{out} names a file, but the format png writes a folder of pictures; give a folder's name")
    try:
        there = list(out.iterdir()) if out.is_dir() else []
        if there and not overwrite:
            raise OutputError(f"{out} already holds something; choose another --out, or give --overwrite")
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror or error}") from error
    make_folder(out)
    try:
        yield PngFolder(out, [path for path in there if NUMBERED.fullmatch(path.name)])
    except BaseException:
        with suppress(OSError):  # a folder that got nothing is not left behind
            if not there:
                out.rmdir()
        raise


class PngFolder:
    """One PNG file an image, named by its index: 000000123.png."""

    def __init__(self, folder: Path, stale: list[Path]) -> None:
        """`stale` are pictures of an earlier run, to be removed before the first is written."""
        self._folder = folder
        self._stale = stale

    def write(self, first: int, images: ByteImages) -> None:
        while self._stale:
            self._stale.pop().unlink()
        for index, image in enumerate(images, first):
            with whole_file(self._folder / f"{index:0{INDEX_DIGITS}d}.png") as partial:
                partial.write_bytes(encode_png(image))


@contextmanager
def _open_npy(out: Path, count: int, image_shape: tuple[int, int, int], overwrite: bool) -> Iterator[Writer]:
    try:
        taken = out.is_symlink() or out.is_file()
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
    if taken and not overwrite:
        raise OutputError(f"{out} is there already; choose another --out, or give --overwrite")
    make_folder(out.parent)
    with whole_file(out) as partial, partial.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *image_shape)}
        np.lib.format.write_array_header_1_0(file, header)
        writer = NpyFile(file)
        yield writer
        if writer.written != count:
            raise OutputError(f"{out} was to hold {count} images and got {writer.written}")


class NpyFile:
    """The pixels of one .npy file, after its header."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.written = 0

    def write(self, first: int, images: ByteImages) -> None:
        self.written += len(images)
        self._file.write(np.ascontiguousarray(images).data)
