"""Files that hold images, most of them many: written from front to back to a stream, and read back.

container = open_container("tar", file, count=100, image_shape=(1, 28, 28), provenance={"Model": "mnist"})
container.write(images, range(100))
container.close()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, Protocol

from vae_gen.containers.arrays import ArrayContainer, npy_header, read_idx, read_npy
from vae_gen.containers.members import Chunk, PictureMembers
from vae_gen.containers.npz import NpzContainer, read_npz
from vae_gen.containers.picture import PictureFile, read_picture
from vae_gen.containers.tar import TarContainer, read_tar
from vae_gen.containers.zip import ZipContainer, read_zip
from vae_gen.defaults import OF_MANY_IMAGES
from vae_gen.errors import UsageError, unknown_format
from vae_gen.idx import MOST_IMAGES, idx_header
from vae_gen.images import ByteImages, ImageShape

READERS = {"npy": read_npy, "npz": read_npz, "tar": read_tar, "zip": read_zip, "idx": read_idx, "png": read_picture}


class Container(Protocol):
    """One file of images."""

    def write(self, images: ByteImages, indices: Sequence[int]) -> None:
        """Write the next images, uint8 [n, C, H, W]; arrays keep their order only, pictures their indices too."""

    def close(self) -> None:
        """Write what comes last. The stream stays open.

        Raises OutputError if the format's header promised more or fewer images than came.
        """


def open_container(
    format: str,
    file: BinaryIO,
    count: int,
    image_shape: ImageShape,
    provenance: Mapping[str, str | int | float] | None = None,
) -> Container:
    """A container for `count` images, which begins where `file` stands and never seeks in it.

    npy: uint8 [count, C, H, W]. npz: the same as the one array `images`, deflated. idx: as MNIST, [count, H, W] if
    C is 1 and [count, C, H, W] if not. tar: a WebDataset, 000000123.png and, with `provenance`, 000000123.json.
    zip: 000000123.png. png: the one picture. With `provenance`, pictures carry it as texts too. The same images make
    the same bytes however they are divided among calls, save that another version of zlib may compress differently.
    Raises UsageError for a format that is unknown or cannot hold so many images.
    """
    check_fits(format, count)
    match format:
        case "npy":
            return ArrayContainer(file, npy_header(count, image_shape), count)
        case "idx":
            return ArrayContainer(file, idx_header(count, image_shape), count)
        case "npz":
            return NpzContainer(file, count, image_shape)
        case "tar":
            return TarContainer(file, PictureMembers(image_shape, provenance), provenance)
        case "zip":
            return ZipContainer(file, PictureMembers(image_shape, provenance))
        case "png":
            return PictureFile(file, PictureMembers(image_shape, provenance), count)
    raise unknown_format(format)


def check_fits(format: str, count: int) -> None:
    """Raise UsageError if a file of that format cannot hold so many images."""
    if format == "png" and count > 1:
        raise UsageError(
            f"a PNG file holds one image, not {count:,}; give the name of a folder, or a file that ends in "
            f"{', '.join(OF_MANY_IMAGES)}"
        )
    if format == "idx" and count > MOST_IMAGES:
        raise UsageError(
            f"the format idx counts images in 32 bits, so that a file holds at most {MOST_IMAGES:,}, not {count:,}; "
            "choose npy, or write several files"
        )


def read_container(format: str, file: BinaryIO, source: str) -> Iterator[Chunk]:
    """The images in a container, in order: (indices, uint8 [n, C, H, W]) with n at most 1,024.

    Indices are None for the formats that have none: npy, npz, idx and png. Memory is bounded, but for zip, whose
    directory is read whole. npz and zip need a file that can seek.
    Raises DataError, which says what is wrong with `source`; UsageError for an unknown format.
    """
    if format not in READERS:
        raise unknown_format(format)
    return READERS[format](file, source)
