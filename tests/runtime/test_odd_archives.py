"""Archives that are damaged, cut, odd or none: named, and never a smaller data set."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from vae_gen.data import archives
from vae_gen.data.datasets import load_data_set
from vae_gen.data.options import DataOptions
from vae_gen.data.pictures import load_pictures
from vae_gen.errors import DataError

from tests.runtime.archive_files import KINDS, blank, files_in, pack, same
from tests.runtime.data_files import fill, sizes

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_archive_is_no_smaller_data_set(folder: Path, tmp_path: Path, kind: str) -> None:
    fill(folder)
    whole = pack(tmp_path / f"a.{kind}", files_in(folder)).read_bytes()
    cut = tmp_path / f"cut.{kind}"
    for share in (0.3, 0.5, 0.75, 0.9):
        cut.write_bytes(whole[: int(len(whole) * share)])
        for load in (load_data_set, lambda path: load_pictures([path], (1, 6, 8))):
            if share == 0.9 and cut.read_bytes().endswith(bytes(2 * tarfile.BLOCKSIZE)):
                continue  # what a tar archive has after its end
            with pytest.raises(DataError, match=r"cut\."):
                load(cut)


@pytest.mark.parametrize("at", range(12))
def test_a_tar_cut_between_its_files_is_found(folder: Path, tmp_path: Path, at: int) -> None:
    fill(folder)
    whole = pack(tmp_path / "a.tar", files_in(folder)).read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        ends = [member.offset for member in tar.getmembers()[1:]]
    (tmp_path / "cut.tar").write_bytes(whole[: ends[at]])
    with pytest.raises(DataError, match=r"cut\.tar as an archive: it is damaged or cut"):
        load_data_set(tmp_path / "cut.tar")


def test_a_damaged_header_is_no_end(folder: Path, tmp_path: Path) -> None:
    fill(folder)
    path = pack(tmp_path / "a.tar", files_in(folder))
    with tarfile.open(path) as tar:
        start = tar.getmembers()[9].offset
    damaged = bytearray(path.read_bytes())
    damaged[start + 3] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"a\.tar as an archive: it is damaged or cut"):
        load_data_set(path)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_pictures_in_an_archive_are_named_or_left_out(folder: Path, tmp_path: Path, kind: str) -> None:
    fill(folder)
    good = load_data_set(folder)
    files = files_in(folder) | {"x.png": b"no picture", "y.jpg": b"", "nameless": b"words"}
    archive = pack(tmp_path / f"a.{kind}", files)
    with pytest.raises(DataError, match=r"2 files in .*a\..*:\n  x\.png: not in .*\n  y\.jpg: it is empty\n"):
        load_data_set(archive)
    assert same(load_data_set(archive, DataOptions(skip_bad=True)), good)

    with pytest.raises(DataError, match=rf"cannot read {re.escape(str(archive))}/x\.png: not in a picture format"):
        load_pictures([archive], (1, 6, 8))
    found = load_pictures([archive], (1, 6, 8), skip_bad=True)
    assert found.names == [f"{archive}/{name}" for name in files if name.startswith(("0", "1", "2"))]
    assert [bad.partition(": ")[0] for bad in found.bad] == [
        f"cannot read {archive}/{name}" for name in ("x.png", "y.jpg")
    ]
    np.testing.assert_array_equal(
        found.images, load_pictures([folder / name for name in list(files)[:24]], (1, 6, 8)).images
    )


def test_damage_and_passwords_in_a_zip_archive_are_named(folder: Path, tmp_path: Path) -> None:
    fill(folder)
    path = pack(tmp_path / "a.zip", files_in(folder))
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        first, second = archive.infolist()[:2]
    content[first.header_offset + 30 + len(first.filename) + first.file_size // 2] ^= 255
    entry = content.index(second.filename.encode(), content.index(b"PK\x01\x02")) - 46
    content[entry + 8] |= 1  # encrypted
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"2 files in ") as raised:
        load_data_set(path)
    assert f"{first.filename}: Bad CRC-32" in str(raised.value)
    assert f"{second.filename}: " in str(raised.value)
    assert "encrypted" in str(raised.value)


def test_a_huge_file_without_a_suffix_is_not_unpacked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder)
    path = pack(tmp_path / "a.deflated.zip", files_in(folder) | {"huge": bytes(100_000_000)})
    read: list[str] = []
    read_member = zipfile.ZipFile.read

    def watched(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
        read.append(member.filename)
        return read_member(archive, member)

    monkeypatch.setattr(zipfile.ZipFile, "read", watched)
    said: list[str] = []
    assert same(load_data_set(path, notify=said.append), load_data_set(folder))
    assert said[-1] == f"{path} also holds files that are not used: 1 without a suffix"
    assert len(load_pictures([path], (1, 6, 8)).names) == 24
    assert set(read) == set(files_in(folder))


def test_an_archive_without_pictures_is_refused_in_words(tmp_path: Path) -> None:
    empty, others = pack(tmp_path / "empty.zip", {}), pack(tmp_path / "others.tar", {"a.txt": b"words"})
    with pytest.raises(DataError, match=r"empty\.zip holds no pictures: it is empty"):
        load_data_set(empty)
    with pytest.raises(DataError, match=r"others\.tar holds no pictures: only other files \(1 \.txt\)"):
        load_data_set(others)
    for path in (empty, others):
        with pytest.raises(DataError, match=re.escape(f"{path} holds no pictures")):
            load_pictures([path], (1, 6, 8))


def test_what_is_called_an_archive_and_is_none_is_named(folder: Path) -> None:
    (folder / "a.zip").write_bytes(gzip.compress(b"words"))
    with pytest.raises(DataError, match=r"a\.zip is no zip or tar archive; remove it"):
        load_data_set(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="the system has no GNU tar")
def test_sparse_files_in_a_tar_archive_are_refused(folder: Path, tmp_path: Path) -> None:
    with (folder / "big.bmp").open("wb") as file:
        file.truncate(1 << 20)
    subprocess.run(["tar", "-S", "-cf", tmp_path / "sparse.tar", "-C", folder, "big.bmp"], check=True)
    with pytest.raises(DataError, match=r"cannot read .*sparse\.tar as an archive: big\.bmp .* is sparse; unpack it"):
        load_data_set(tmp_path / "sparse.tar")


def test_a_tar_archive_that_ends_too_soon_is_refused(folder: Path, tmp_path: Path) -> None:
    fill(folder)
    path = pack(tmp_path / "a.tar", files_in(folder))
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        start = tar.getmembers()[9].offset
    path.write_bytes(whole[:start] + bytes(tarfile.BLOCKSIZE) + whole[start + tarfile.BLOCKSIZE :])
    (tmp_path / "twice.tar").write_bytes(whole + whole)
    (tmp_path / "late.tar").write_bytes(whole + bytes(3 << 20) + b"x")
    for name in ("a.tar", "twice.tar", "late.tar"):
        with pytest.raises(DataError, match=f"{name} as an archive: it is damaged or cut, or goes on after its end"):
            load_data_set(tmp_path / name)
    (tmp_path / "padded.tar").write_bytes(whole + bytes(3 << 20))
    assert same(load_data_set(tmp_path / "padded.tar"), load_data_set(folder))


def test_a_zip_archive_whose_directory_ends_too_soon_is_refused(folder: Path, tmp_path: Path) -> None:
    fill(folder)
    path = pack(tmp_path / "a.zip", files_in(folder))
    content = bytearray(path.read_bytes())
    entry = 0
    for _ in range(13):
        entry = content.index(b"PK\x01\x02", entry + 1)
    content[entry + 33] = 255  # the length of a comment that is not there
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip as an archive: it is damaged: its directory lists [0-9]+ of 24 files"):
        load_data_set(path)


def odd_archive(path: Path, what: str) -> None:
    """A size below 0, in base 256, which leads back to the same header; or more headers than may be nested."""
    member = blank("a.png")
    if what == "negative":
        header = bytearray(member.tobuf())
        header[124:136] = b"\xff" * 10 + b"\xfe\x00"
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        path.write_bytes(bytes(header) + bytes(20 * tarfile.BLOCKSIZE))
    else:
        headers = b"".join(blank(f"h{number}", tarfile.XHDTYPE).tobuf() for number in range(3000))
        path.write_bytes(headers + member.tobuf() + bytes(2 * tarfile.BLOCKSIZE))


@pytest.mark.parametrize("what", ["negative", "headers"])
def test_odd_headers_are_damage(tmp_path: Path, what: str) -> None:
    odd_archive(tmp_path / "odd.tar", what)
    for load in (load_data_set, lambda path: load_pictures([path], (1, 6, 8))):
        with pytest.raises(DataError, match=r"cannot read .*odd\.tar as an archive: "):
            load(tmp_path / "odd.tar")


def test_random_damage_is_named_and_never_a_smaller_data_set(folder: Path, tmp_path: Path) -> None:
    """Bytes of what describes the files, not of what they hold."""
    fill(folder)
    expected = load_data_set(folder)
    random = np.random.default_rng(0)
    for kind in ("zip", "tar"):
        whole = pack(tmp_path / f"a.{kind}", files_in(folder)).read_bytes()
        if kind == "zip":
            start = whole.index(b"PK\x01\x02")  # 24 entries of 46 bytes and a name of six, which may change
            places = [at for at in range(start, len(whole)) if (at - start) % 52 < 46]
        else:
            with tarfile.open(tmp_path / "a.tar") as tar:
                places = [member.offset + at for member in tar.getmembers() for at in range(tarfile.BLOCKSIZE)]
        for number in range(150):
            damaged = bytearray(whole)
            for _ in range(int(random.integers(1, 4))):
                damaged[int(random.choice(places))] = int(random.integers(0, 256))
            path = tmp_path / f"{number}.{kind}"
            path.write_bytes(damaged)
            try:
                found = load_data_set(path)
            except DataError as error:
                assert path.name in str(error)  # noqa: PT017
            else:
                assert sum(sizes(found)) == sum(sizes(expected))


def test_a_full_disk_is_said_to_be_that(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    fill(folder)
    path = pack(tmp_path / "a.tgz", files_in(folder))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(archives.shutil, "copyfileobj", fail)
    with pytest.raises(DataError, match=r"cannot unpack .*a\.tgz in .*TMPDIR names.*: No space left on device"):
        load_data_set(path)
    assert not list((tmp_path / "temporary").iterdir())


def test_what_only_begins_as_a_zip_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK" + bytes(100))
    with pytest.raises(DataError, match=r"a\.zip as a zip archive: File is not a zip file"):
        load_data_set(tmp_path / "a.zip")
