"""What tests of containers share: streams, images written into a container, and others that read it."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Sequence

import numpy as np
from PIL import Image
from vae_gen.containers import open_container, read_container

FORMATS = ("npy", "npz", "tar", "zip", "idx")
ARRAYS = ("npy", "npz", "idx")
PICTURES = ("tar", "zip")
PROVENANCE = {"Model": "Tïny", "Seed": 7, "Temperature": 0.5}
SHAPES = [(1, 5, 4), (3, 5, 4), (4, 2, 7)]


class Pipe(io.RawIOBase):
    """A stream that takes bytes and can do nothing else."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, content) -> int:
        self.content += content
        return memoryview(content).nbytes

    def seek(self, *_args: object) -> int:
        raise io.UnsupportedOperation("seek")

    def tell(self) -> int:
        raise io.UnsupportedOperation("tell")


def pixels(count: int, shape: tuple[int, int, int] = (3, 5, 4)) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)


def written(
    format: str, images: np.ndarray, indices: Sequence[int] | None = None, provenance=None, step=10**6
) -> bytes:
    pipe = Pipe()
    container = open_container(format, pipe, len(images), images.shape[1:], provenance)
    indices = range(len(images)) if indices is None else indices
    for start in range(0, len(images), step):
        container.write(images[start : start + step], indices[start : start + step])
    container.close()
    return bytes(pipe.content)


def read_back(format: str, content: bytes) -> tuple[list[int] | None, np.ndarray]:
    chunks = list(read_container(format, io.BytesIO(content), "it"))
    indices = [index for chunk, _ in chunks for index in chunk or []]
    return (None if chunks[0][0] is None else indices), np.concatenate([images for _, images in chunks])


def independently(format: str, content: bytes) -> np.ndarray:
    """The images [n, C, H, W], read by others than the code under test."""
    if format == "npy":
        return np.load(io.BytesIO(content))
    if format == "npz":
        with np.load(io.BytesIO(content)) as archive:
            assert archive.files == ["images"]
            return archive["images"]
    if format == "idx":
        rank = content[3]
        assert content[:3] == b"\0\0\x08"
        shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
        array = np.frombuffer(content[4 + 4 * rank :], np.uint8).reshape(shape)
        return array[:, None] if rank == 3 else array
    if format == "tar":
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            pictures = [archive.extractfile(member).read() for member in archive if member.name.endswith(".png")]
    else:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.testzip() is None
            pictures = [archive.read(name) for name in archive.namelist()]
    arrays = [np.asarray(Image.open(io.BytesIO(picture))) for picture in pictures]
    return np.stack([array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0) for array in arrays])


class FakeEncoder:
    content = b"picture"

    def __init__(self, *_args: object) -> None:
        pass

    def encode(self, images: np.ndarray, indices: Sequence[int] | None = None) -> list[bytes]:
        return [self.content] * len(images)


INDICES = [123, 999_999_999, 1_000_000_000, 2**63 - 1]
NAMES = ["000000123", "999999999", "1000000000", "9223372036854775807"]


def zip_of_zipfile(names: list[str], contents: list[bytes]) -> bytes:
    reference = io.BytesIO()
    with zipfile.ZipFile(reference, "w") as archive:
        for name, content in zip(names, contents, strict=True):
            member = zipfile.ZipInfo(name)
            member.create_system = 3
            member.external_attr = 0o100644 << 16
            archive.writestr(member, content)
    return reference.getvalue()
