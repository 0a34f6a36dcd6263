"""Reading containers: little at a time, from pipes, and none that are cut, damaged or of something else."""

from __future__ import annotations

import io
import struct
import tarfile

import numpy as np
import pytest
from PIL import Image
from vae_gen.containers import members as members_module
from vae_gen.containers import read_container
from vae_gen.errors import DataError

from tests.runtime.container_files import FORMATS, PROVENANCE, pixels, read_back, written, zip_of_zipfile


@pytest.mark.parametrize("format", FORMATS)
def test_reading_takes_little_at_a_time(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = written(format, pixels(2_100, (1, 1, 2)))
    sizes = [len(images) for _, images in read_container(format, io.BytesIO(content), "it")]
    assert sizes == [1024, 1024, 52]
    monkeypatch.setattr(members_module, "BYTES_AT_ONCE", 1600)
    sizes = [len(images) for _, images in read_container(format, io.BytesIO(content), "it")]
    assert sizes == [800, 800, 500]


class Forwards(io.RawIOBase):
    """A stream that can only be read on, and gives few bytes at a time, as pipes do."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, 100))

    def seek(self, *_args: object) -> int:
        raise io.UnsupportedOperation("seek")


@pytest.mark.parametrize("format", ["idx", "npy", "tar"])
def test_pipes_can_be_read(format: str) -> None:
    images = pixels(5)
    chunks = read_container(format, Forwards(written(format, images, provenance=PROVENANCE)), "it")
    np.testing.assert_array_equal(np.concatenate([chunk for _, chunk in chunks]), images)


@pytest.mark.parametrize("format", FORMATS)
def test_a_truncated_file_is_an_error_wherever_it_ends(format: str) -> None:
    content = written(format, pixels(2), provenance=PROVENANCE)
    whole = len(content.rstrip(b"\0")) // 512 * 512 + 512 + 1024 if format == "tar" else len(content)
    read_back(format, content[:whole])
    for end in [*range(0, whole, 5), whole - 1]:
        with pytest.raises(DataError, match="it"):
            read_back(format, content[:end])


@pytest.mark.parametrize("format", ["npz", "tar", "zip"])
def test_no_damaged_byte_changes_what_is_read(format: str) -> None:
    images = pixels(2, (1, 17, 23)) // 64  # of well compressed pictures, Pillow itself overlooks some damage
    content = written(format, images, [5, 6], PROVENANCE)
    found = 0
    for position in range(len(content.rstrip(b"\0"))):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        try:
            indices, back = read_back(format, bytes(damaged))
        except DataError:
            found += 1
        else:
            np.testing.assert_array_equal(back, images)
            assert indices == (None if format == "npz" else [5, 6])
    assert found > 200


def npy_of(array: np.ndarray) -> bytes:
    np.save(file := io.BytesIO(), array)
    return file.getvalue()


def npz_of(**arrays: np.ndarray) -> bytes:
    np.savez(file := io.BytesIO(), **arrays)
    return file.getvalue()


def png_of(mode: str, size: tuple[int, int] = (4, 5)) -> bytes:
    Image.new(mode, size).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def tar_of(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), kind
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


FOREIGN = {
    "npy of floats": ("npy", npy_of(np.zeros((2, 1, 5, 4), np.float32)), r"holds float32 of shape \(2, 1, 5, 4\)"),
    "npy of flat images": ("npy", npy_of(np.zeros((2, 5, 4), np.uint8)), r"holds uint8 of shape \(2, 5, 4\)"),
    "npy by columns": ("npy", npy_of(np.zeros((2, 3, 5, 4), np.uint8, order="F")), "in Fortran's order"),
    "npy with channels last": ("npy", npy_of(np.zeros((2, 5, 4, 3), np.uint8)), r"of shape \(5, 4, 3\)"),
    "npy without pixels": ("npy", npy_of(np.zeros((2, 1, 0, 4), np.uint8)), r"of shape \(1, 0, 4\)"),
    "npy of version 2": ("npy", b"\x93NUMPY\2\0" + bytes(20), "version 2.0"),
    "npy of anything else": ("npy", b"hello, hello", "magic string"),
    "npy and more": ("npy", npy_of(np.zeros((2, 1, 5, 4), np.uint8)) + b"x", "longer than its header says"),
    "npz of two arrays": ("npz", npz_of(images=np.zeros(2), more=np.zeros(2)), "holds images.npy, more.npy"),
    "npz of labels": ("npz", npz_of(labels=np.zeros(2)), "holds labels.npy; it should be images.npy alone"),
    "npz of floats": ("npz", npz_of(images=np.zeros((2, 1, 5, 4))), "holds float64"),
    "npz of anything else": ("npz", b"hello", "not a zip file"),
    "idx of labels": (
        "idx",
        bytes.fromhex("00000801 00000002 0102"),
        r"1 dimensions \(labels\); 3 or 4 are needed",
    ),
    "idx of floats": ("idx", bytes.fromhex("00000d03"), "holds elements of IDX type 0x0d"),
    "idx of nothing": ("idx", b"", "does not begin with two zero bytes"),
    "idx with a header cut off": ("idx", bytes.fromhex("00000803 0000"), "ends in its header"),
    "idx cut off": ("idx", struct.pack(">4B3I", 0, 0, 8, 3, 2, 5, 4) + bytes(39), "39 of 40 bytes of pixels"),
    "idx of huge images": (
        "idx",
        struct.pack(">4B3I", 0, 0, 8, 3, 1, 2**32 - 1, 2**32 - 1),
        "truncated: 0 of 184467440",
    ),
    "idx and more": ("idx", struct.pack(">4B3I", 0, 0, 8, 3, 2, 5, 4) + bytes(41), "longer than its header says"),
    "tar of other names": ("tar", tar_of(("cat.png", b"")), "'cat.png'; pictures are named by their index"),
    "tar of other suffixes": ("tar", tar_of(("000000001.cls", b"")), "'000000001.cls'; pictures are named"),
    "tar of folders": ("tar", tar_of(("000000001.png", b""), kind=tarfile.DIRTYPE), "which is no regular file"),
    "tar of anything else": ("tar", b"hello" * 1000, "truncated or damaged"),
    "tar of no pictures": ("tar", tar_of(("000000001.png", b"x")), "a damaged picture, 000000001.png"),
    "tar with a wrong checksum": (
        "tar",
        tar_of(("000000001.png", png_of("L")[:-16] + bytes(4) + png_of("L")[-12:])),  # of the last chunk but one
        "000000001.png: a chunk's checksum is wrong",
    ),
    "tar cut off": ("tar", tar_of(("000000001.png", png_of("L")))[:600], "truncated: it ends in 000000001.png"),
    "tar of palettes": ("tar", tar_of(("000000001.png", png_of("P"))), "with pixels of mode P"),
    "tar of many shapes": (
        "tar",
        tar_of(("000000001.png", png_of("L")), ("000000002.png", png_of("RGB"))),
        r"several shapes: \(1, 5, 4\) and, with the index 2, \(3, 5, 4\)",
    ),
    "tar with a record first": ("tar", tar_of(("000000001.json", b'{"index": 1}')), "no record of the picture before"),
    "tar with a record of another": (
        "tar",
        tar_of(("000000001.png", png_of("L")), ("000000001.json", b'{"index": 2}')),
        "000000001.json, which is no record",
    ),
    "tar with a broken record": (
        "tar",
        tar_of(("000000001.png", png_of("L")), ("000000001.json", b"[")),
        "000000001.json, which is no record",
    ),
    "two tars": ("tar", tar_of(("000000001.png", png_of("L"))) * 2, "goes on after its end"),
    "zip of other names": ("zip", zip_of_zipfile(["cat.png"], [b""]), "'cat.png'; pictures are named by their index"),
    "zip of jpegs": ("zip", zip_of_zipfile(["000000001.png"], [b"\xff\xd8\xff"]), "a damaged picture, 000000001.png"),
    "zip of records": ("zip", zip_of_zipfile(["000000001.json"], [b"{}"]), "000000001.json, which is no picture"),
    "zip after something": (
        "zip",
        b"#!/bin/sh" + zip_of_zipfile(["000000001.png"], [png_of("L")]),
        "something before 000000001.png",
    ),
    "zip of anything else": ("zip", b"hello", "not a zip file"),
}


@pytest.mark.parametrize(("format", "content", "message"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_container_is_said(format: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        list(read_container(format, io.BytesIO(content), "it"))
    assert str(caught.value).startswith(("it ", "cannot read it: "))


def test_pictures_that_no_model_makes_are_refused() -> None:
    Image.new("LA", (4, 5), (7, 9)).save(file := io.BytesIO(), "PNG")
    with pytest.raises(DataError, match=r"000000001\.png with pixels of mode LA; images are L, RGB, RGBA"):
        list(read_container("tar", io.BytesIO(tar_of(("000000001.png", file.getvalue()))), "it"))
