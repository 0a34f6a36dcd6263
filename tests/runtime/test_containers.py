from __future__ import annotations

import gc
import io
import json
import shutil
import struct
import subprocess
import tarfile
import tracemalloc
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vae_gen.containers import READERS, open_container, read_container
from vae_gen.containers import members as members_module
from vae_gen.containers import zip as zip_module
from vae_gen.containers import zip_records as records
from vae_gen.defaults import SUFFIXES
from vae_gen.errors import DataError, OutputError, UsageError
from vae_gen.png import PngEncoder

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


class Sink(Pipe):
    """A stream that only counts."""

    size = 0

    def write(self, content) -> int:
        self.size += memoryview(content).nbytes
        return memoryview(content).nbytes


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


@pytest.fixture
def fake_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members_module, "PngEncoder", FakeEncoder)


def test_every_suffix_is_of_a_format_that_is_written_and_read() -> None:
    assert sorted(SUFFIXES) == sorted(READERS) == sorted(FORMATS)
    assert all(suffix == f".{name}" for name, suffix in SUFFIXES.items())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("format", FORMATS)
def test_others_read_the_pixels_that_were_written(format: str, shape: tuple[int, int, int]) -> None:
    images = pixels(6, shape)
    np.testing.assert_array_equal(independently(format, written(format, images, provenance=PROVENANCE)), images)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("format", FORMATS)
def test_what_was_written_is_read_back(format: str, shape: tuple[int, int, int]) -> None:
    images = pixels(5, shape)
    gaps = [0, 7, 8, 123_456_789_012, 2**63 - 1]
    indices, back = read_back(format, written(format, images, gaps, PROVENANCE))
    np.testing.assert_array_equal(back, images)
    assert indices == (gaps if format in PICTURES else None)


@pytest.mark.parametrize("format", FORMATS)
def test_the_bytes_do_not_depend_on_how_images_are_divided_among_calls(format: str) -> None:
    images = pixels(7)
    whole = written(format, images, provenance=PROVENANCE)
    assert [written(format, images, provenance=PROVENANCE, step=step) for step in (1, 3, 4)] == [whole] * 3


@pytest.mark.parametrize("format", FORMATS)
def test_views_are_written_like_copies(format: str) -> None:
    images = pixels(4).transpose(0, 1, 3, 2)
    assert written(format, images) == written(format, images.copy())


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_of_no_images_is_whole(format: str) -> None:
    container = open_container(format, pipe := Pipe(), 0, (1, 5, 4))
    container.write(pixels(0, (1, 5, 4)), [])
    container.close()
    assert list(read_container(format, io.BytesIO(pipe.content), "it")) == []


@pytest.mark.parametrize("format", ARRAYS)
@pytest.mark.parametrize("came", [2, 4])
def test_a_header_that_promised_another_count_is_an_error(format: str, came: int) -> None:
    container = open_container(format, Pipe(), 3, (3, 5, 4))
    container.write(pixels(came), range(came))
    with pytest.raises(OutputError, match=f"to hold 3 images and got {came}"):
        container.close()


def test_npy_files_begin_with_the_header_of_version_1() -> None:
    content = written("npy", pixels(3))
    np.save(reference := io.BytesIO(), pixels(3))
    assert content == reference.getvalue()
    assert content[6:8] == b"\1\0"


def test_idx_files_have_mnist_s_header() -> None:
    assert written("idx", pixels(3, (1, 5, 4)))[:16] == bytes.fromhex("00000803 00000003 00000005 00000004")
    assert written("idx", pixels(2))[:20] == bytes.fromhex("00000804 00000002 00000003 00000005 00000004")


def test_idx_counts_in_32_bits() -> None:
    open_container("idx", pipe := Pipe(), 2**32 - 1, (1, 28, 28))
    assert pipe.content[4:8] == b"\xff\xff\xff\xff"
    with pytest.raises(UsageError, match=r"32 bits.*at most 4,294,967,295, not 4,294,967,296; choose npy"):
        open_container("idx", Pipe(), 2**32, (1, 28, 28))


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown format 'rar'; known: npy, npz, tar, zip, idx"):
        open_container("rar", Pipe(), 1, (1, 2, 2))
    with pytest.raises(UsageError, match="unknown format 'rar'; known: npy, npz, tar, zip, idx"):
        read_container("rar", io.BytesIO(), "it")


INDICES = [123, 999_999_999, 1_000_000_000, 2**63 - 1]
NAMES = ["000000123", "999999999", "1000000000", "9223372036854775807"]


def test_a_tar_is_that_of_python_s_tarfile() -> None:
    images = pixels(4)
    texts = {key: str(value) for key, value in PROVENANCE.items()}
    pictures = PngEncoder((3, 5, 4), texts).encode(images, INDICES)
    reference = io.BytesIO()
    with tarfile.open(fileobj=reference, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, index, picture in zip(NAMES, INDICES, pictures, strict=True):
            line = f'{{"index": {index}, "model": "T\\u00efny", "seed": 7, "temperature": 0.5}}\n'
            for suffix, content in (("png", picture), ("json", line.encode())):
                member = tarfile.TarInfo(f"{name}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    content = written("tar", images, INDICES, PROVENANCE)
    assert len(content) % 10240 == 0
    assert content == reference.getvalue()


def test_a_tar_header_s_fields_are_those_of_ustar(fake_encoder: None) -> None:
    header = written("tar", pixels(1), [123])[:512]
    fields = {"name": 100, "mode": 8, "uid": 8, "gid": 8, "size": 12, "mtime": 12, "checksum": 8, "typeflag": 1}
    fields |= {"linkname": 100, "magic": 6, "version": 2, "owners": 64, "device": 16, "prefix": 155, "rest": 12}
    found, start = {}, 0
    for name, size in fields.items():
        found[name] = header[start : start + size]
        start += size
    assert start == 512
    assert found.pop("name").rstrip(b"\0") == b"000000123.png"
    blank = header[:148] + b" " * 8 + header[156:]
    assert found.pop("checksum") == b"%06o\0 " % sum(blank)
    assert found == {
        "mode": b"0000644\0",
        "uid": b"0000000\0",
        "gid": b"0000000\0",
        "size": b"00000000007\0",
        "mtime": b"00000000000\0",
        "typeflag": b"0",
        "linkname": bytes(100),
        "magic": b"ustar\0",
        "version": b"00",
        "owners": bytes(64),
        "device": bytes(16),
        "prefix": bytes(155),
        "rest": bytes(12),
    }


# Of 2 blocks, 9 pictures and the end fill 10,240 bytes exactly; of 3 blocks, 13 pictures leave room for half the end.
@pytest.mark.parametrize(
    ("blocks", "count", "size"), [(2, 8, 10240), (2, 9, 10240), (2, 10, 20480), (3, 13, 30720), (3, 20, 40960)]
)
def test_a_tar_s_end_is_padded_to_whole_records(
    fake_encoder: None, monkeypatch: pytest.MonkeyPatch, blocks: int, count: int, size: int
) -> None:
    monkeypatch.setattr(FakeEncoder, "content", b"x" * (512 * (blocks - 1)))
    content = written("tar", pixels(count))
    assert len(content) == size
    assert content[: count * blocks * 512].endswith(b"x")
    assert not any(content[count * blocks * 512 :])


@pytest.mark.parametrize("format", PICTURES)
@pytest.mark.parametrize("provenance", [None, {}, PROVENANCE])
def test_pictures_carry_provenance_if_there_is_any(
    format: str, provenance: dict[str, str | int | float] | None
) -> None:
    content = written(format, pixels(1), [12], provenance)
    if format == "tar":
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            found = {member.name: archive.extractfile(member).read() for member in archive}
    else:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = {name: archive.read(name) for name in archive.namelist()}
    texts = Image.open(io.BytesIO(found.pop("000000012.png"))).text
    if provenance is None:
        assert texts == {}
    else:
        assert texts == {"Index": "12"} | {key: str(value) for key, value in provenance.items()}
    if format == "tar" and provenance is not None:
        line = found.pop("000000012.json").decode()
        assert line.endswith("}\n")
        assert line.count("\n") == 1
        assert json.loads(line) == {"index": 12} | {key.lower(): value for key, value in provenance.items()}
    assert found == {}


def zip_of_zipfile(names: list[str], contents: list[bytes]) -> bytes:
    reference = io.BytesIO()
    with zipfile.ZipFile(reference, "w") as archive:
        for name, content in zip(names, contents, strict=True):
            member = zipfile.ZipInfo(name)
            member.create_system = 3
            member.external_attr = 0o100644 << 16
            archive.writestr(member, content)
    return reference.getvalue()


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
    "idx of labels": ("idx", bytes.fromhex("00000801 00000002 0102"), "begins with 00 00 08 01"),
    "idx of floats": ("idx", bytes.fromhex("00000d03"), "begins with 00 00 0d 03"),
    "idx of nothing": ("idx", b"", "begins with nothing"),
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


def test_pictures_of_grey_and_alpha_have_two_channels() -> None:
    pixel = Image.new("LA", (4, 5), (7, 9))
    pixel.save(file := io.BytesIO(), "PNG")
    ((indices, images),) = read_container("tar", io.BytesIO(tar_of(("000000001.png", file.getvalue()))), "it")
    assert (indices, images.shape, images[0, :, 4, 3].tolist()) == ([1], (1, 2, 5, 4), [7, 9])


@pytest.mark.parametrize(("format", "tool"), [("tar", ["tar", "-tf"]), ("zip", ["unzip", "-tqq"])])
def test_the_system_s_tools_accept_it(format: str, tool: list[str], tmp_path: Path) -> None:
    path = tmp_path / f"images.{format}"
    path.write_bytes(written(format, pixels(5), INDICES + [5], PROVENANCE))
    if shutil.which(tool[0]):
        done = subprocess.run([*tool, path], check=True, capture_output=True, text=True)
        assert done.stderr == ""
