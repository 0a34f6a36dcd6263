"""Zip and npz files, field by field and against Python's own."""

from __future__ import annotations

import gc
import io
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from vae_gen.containers import open_container, read_container
from vae_gen.containers import zip as zip_module
from vae_gen.containers import zip_records as records
from vae_gen.errors import DataError
from vae_gen.png import PngEncoder

from tests.runtime.container_files import INDICES, NAMES, Pipe, independently, pixels, written, zip_of_zipfile


class Sink(Pipe):
    """A stream that only counts."""

    size = 0

    def write(self, content) -> int:
        self.size += memoryview(content).nbytes
        return memoryview(content).nbytes


def test_a_zip_is_that_of_python_s_zipfile() -> None:
    pictures = PngEncoder((3, 5, 4)).encode(pixels(4))
    assert written("zip", pixels(4), INDICES) == zip_of_zipfile([f"{name}.png" for name in NAMES], pictures)


@pytest.mark.parametrize("format", ["npz", "zip"])
def test_files_in_a_zip_are_of_1980(format: str) -> None:
    with zipfile.ZipFile(io.BytesIO(written(format, pixels(1)))) as archive:
        assert [member.date_time for member in archive.infolist()] == [(1980, 1, 1, 0, 0, 0)]


@pytest.mark.parametrize("count", [65_534, 65_535, 65_536])
def test_a_zip_of_many_pictures_counts_them_in_zip64(fake_encoder: None, count: int) -> None:
    content = written("zip", np.zeros((count, 1, 1, 1), np.uint8), step=1024)
    zip64 = count >= 65_535
    assert content[-22:][10:12] == (b"\xff\xff" if zip64 else b"\xfe\xff")
    record = content[-22 - 20 - 56 : -22 - 20]
    assert (record[:4] == b"PK\6\6") == zip64
    if zip64:
        assert struct.unpack("<2Q", record[24:40]) == (count, count)
        assert content[-22 - 20 :][:4] == b"PK\6\7"
        assert struct.unpack("<Q", content[-22 - 20 :][8:16]) == (len(content) - 22 - 20 - 56,)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert len(archive.namelist()) == count
        assert archive.read(f"{count - 1:09d}.png") == b"picture"


def test_offsets_beyond_32_bits_stand_in_zip64_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pixels(9)
    monkeypatch.setattr(records, "LIMIT_32", 500)
    content = written("zip", images)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        assert archive.testzip() is None
    extras = [struct.pack("<2HQ", 1, 8, member.header_offset) for member in members]
    assert [member.extra for member in members] == [
        extra if member.header_offset >= 500 else b"" for member, extra in zip(members, extras, strict=True)
    ]
    assert b"" in [member.extra for member in members]
    assert extras[-1] == members[-1].extra
    assert {member.extract_version for member in members if member.extra} == {45}
    end = struct.unpack("<4s4H2IH", content[-22:])
    assert end == (b"PK\5\6", 0, 0, 9, 9, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    np.testing.assert_array_equal(independently("zip", content), images)


def test_pictures_that_are_packed_once_more_are_not_unpacked() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("000000000.png", bytes(10**7))
    with pytest.raises(DataError, match=r"000000000\.png compressed once more"):
        list(read_container("zip", file, "a.zip"))


def test_the_limit_of_32_bits_is_the_format_s() -> None:
    assert records.LIMIT_32 == 2**32 - 1
    below = records.central_header(b"x", records.STORED, 0, 1, 1, 2**32 - 2)
    beyond = records.central_header(b"x", records.STORED, 0, 1, 1, 2**32 - 1)
    assert (below[42:46], len(below)) == (b"\xfe\xff\xff\xff", 47)
    assert (beyond[42:46], beyond[47:]) == (b"\xff\xff\xff\xff", struct.pack("<2HQ", 1, 8, 2**32 - 1))


def test_a_zip_s_directory_does_not_stay_in_memory(fake_encoder: None) -> None:
    container = open_container("zip", sink := Sink(), 81_920, (1, 1, 1))
    images = np.zeros((1024, 1, 1, 1), np.uint8)
    tracemalloc.start()
    try:
        for start in range(0, 81_920, 1024):
            container.write(images, range(start, start + 1024))
        container.close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    directory = sink.size - 81_920 * (30 + 13 + 7)
    assert directory > 81_920 * (46 + 13)
    assert peak < directory / 1.5


def test_a_directory_in_a_temporary_file_is_written_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = written("zip", pixels(9))
    monkeypatch.setattr(zip_module, "IN_MEMORY", 100)
    assert written("zip", pixels(9), step=2) == whole


def test_a_zip_that_is_given_up_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_module, "IN_MEMORY", 1)
    container = open_container("zip", Pipe(), 3, (3, 5, 4))
    container.write(pixels(2), range(2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del container
        gc.collect()
    assert caught == []


def npz_parts(content: bytes) -> tuple[tuple[int, ...], bytes, bytes]:
    """Of the first header: its fields and its extra field; and what stands between the array and the directory."""
    fields = struct.unpack("<4s5H3I2H", content[:30])
    name, extra = content[30 : 30 + fields[9]], content[30 + fields[9] :][: fields[10]]
    assert (fields[0], name) == (b"PK\3\4", b"images.npy")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (member,) = archive.infolist()
        directory = archive.start_dir
    return fields, extra, content[30 + len(name) + len(extra) + member.compress_size : directory]


@pytest.mark.parametrize("zip64", [False, True])
def test_the_sizes_in_an_npz_follow_the_array(monkeypatch: pytest.MonkeyPatch, zip64: bool) -> None:
    if zip64:
        monkeypatch.setattr(records, "LIMIT_32", 200)
    images = pixels(9)
    content = written("npz", images)
    np.save(reference := io.BytesIO(), images)
    array = reference.getvalue()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (member,) = archive.infolist()
        assert archive.read(member) == array
    assert (member.compress_type, member.flag_bits, member.file_size) == (zipfile.ZIP_DEFLATED, 8, len(array))
    fields, extra, descriptor = npz_parts(content)
    sizes = (member.CRC, member.compress_size, member.file_size)
    if zip64:
        assert fields[1:9] == (45, 8, 8, 0, 33, 0, 0xFFFFFFFF, 0xFFFFFFFF)
        assert extra == struct.pack("<2H2Q", 1, 16, 0, 0)
        assert descriptor == struct.pack("<4sI2Q", b"PK\7\x08", *sizes)
    else:
        assert fields[1:9] == (20, 8, 8, 0, 33, 0, 0, 0)
        assert extra == b""
        assert descriptor == struct.pack("<4s3I", b"PK\7\x08", *sizes)
    np.testing.assert_array_equal(independently("npz", content), images)


@pytest.mark.parametrize(("count", "zip64"), [(5_470_000, False), (5_479_000, True)])  # 4 GiB are 5,478,275 images
def test_an_npz_of_4_gib_announces_zip64(count: int, zip64: bool) -> None:
    open_container("npz", pipe := Pipe(), count, (1, 28, 28))
    assert struct.unpack("<H", pipe.content[4:6]) == (45 if zip64 else 20,)
