"""Where images go. A writer takes chunks of images in the order of their indices.

with open_writer(out, "png", count=100, image_shape=(1, 28, 28)) as writer:
    writer.write(0, images)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from vae_gen.errors import OutputError, UsageError
from vae_gen.files import make_folder, whole_file
from vae_gen.images import ByteImages, to_pillow

FORMATS = ("png", "npy")
INDEX_DIGITS = 9  # a billion images


class Writer(Protocol):
    def write(self, first: int, images: ByteImages) -> None:
        """Write the images [n, C, H, W] with the indices first ... first + n - 1."""


def format_of(out: Path) -> str:
    """The format that the name of an output suggests."""
    return "npy" if out.suffix == ".npy" else "png"


@contextmanager
def open_writer(
    out: Path, format: str, count: int, image_shape: tuple[int, int, int], overwrite: bool = False
) -> Iterator[Writer]:
    """A writer for `count` images. What it writes is complete only when the block ends.

    png: a folder `out` of files named by index. npy: one file `out`, uint8 [count, C, H, W].
    Raises OutputError if `out` cannot be written, or already holds something and not `overwrite`.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
    folder = format == "png"
    if folder and out.suffix.lower() == ".png":
        raise UsageError(f"{out} names one picture, but the format png writes a folder of them; give a folder's name")
    taken = any(out.iterdir()) if folder and out.is_dir() else out.is_file() and not folder
    if taken and not overwrite:
        raise OutputError(f"{out} already holds something; choose another --out, or give --overwrite")
    if folder:
        make_folder(out)
        yield PngFolder(out)
    else:
        make_folder(out.parent)
        with whole_file(out) as partial, partial.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, *image_shape)}
            np.lib.format.write_array_header_1_0(file, header)
            yield NpyFile(file)


class PngFolder:
    """One PNG file an image, named by its index: 000000123.png."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, first: int, images: ByteImages) -> None:
        for index, image in enumerate(images, first):
            with whole_file(self._folder / f"{index:0{INDEX_DIGITS}d}.png") as partial:
                to_pillow(image).save(partial, "PNG")


class NpyFile:
    """The pixels of one .npy file, after its header."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, first: int, images: ByteImages) -> None:
        self._file.write(np.ascontiguousarray(images).data)
