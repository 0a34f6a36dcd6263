"""Zip and tar archives of pictures: each is what the same files in a folder are."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vae_gen import archives, picture_sources
from vae_gen.archives import open_archive
from vae_gen.data_options import DataOptions
from vae_gen.datasets import DataSet, load_data_set
from vae_gen.errors import DataError
from vae_gen.pictures import load_pictures

from tests.runs import TINY
from tests.runtime.commands import run
from tests.runtime.data_files import everything, fill, sizes

pytestmark = pytest.mark.usefixtures("cache")

KINDS = ("zip", "deflated.zip", "tar", "pax.tar", "tar.gz", "tgz")


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def pack(path: Path, files: Mapping[str, bytes]) -> Path:
    """An archive of the kind that its name says, with these files."""
    if path.suffix == ".zip":
        compression = zipfile.ZIP_DEFLATED if path.name.endswith("deflated.zip") else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    mode = "w:gz" if path.suffix in (".gz", ".tgz") else "w"
    form = tarfile.PAX_FORMAT if path.name.endswith("pax.tar") else tarfile.GNU_FORMAT
    with tarfile.open(path, mode, format=form) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if form == tarfile.PAX_FORMAT:
                member.pax_headers = {"comment": "known"}
            tar.addfile(member, io.BytesIO(content))
    return path


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def same(found: DataSet, expected: DataSet) -> bool:
    alike = (found.sha256, found.test_sha256) == (expected.sha256, expected.test_sha256)
    return alike and sizes(found) == sizes(expected) and np.array_equal(everything(found), everything(expected))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("above", ["", "./", "some/pictures/"])
def test_an_archive_trains_as_its_folder_does(folder: Path, tmp_path: Path, kind: str, above: str) -> None:
    fill(folder / "sub")
    fill(folder / ("long" * 30), 5)  # a name that tar needs an extension for
    (folder / "notes.txt").write_text("words")
    files = {above + name: content for name, content in files_in(folder).items()}
    files |= {f"{above}.hidden.png": b"no", f"__MACOSX/{above}._00.png": b"no"} if above != "./" else {}
    archive = pack(tmp_path / f"a.{kind}", files)
    said: list[str] = []
    assert same(load_data_set(archive, notify=said.append), load_data_set(folder))
    assert said[-1] == f"{archive} also holds files that are not used: 1 .txt"


def test_folders_in_an_archive_are_splits(folder: Path, tmp_path: Path) -> None:
    for split, count in (("train", 20), ("val", 3), ("test", 4)):
        fill(folder / split, count)
    found = load_data_set(pack(tmp_path / "a.zip", {f"all/{name}": file for name, file in files_in(folder).items()}))
    assert same(found, load_data_set(folder))
    assert sizes(found) == (20, 3, 4)


@pytest.mark.parametrize("names", [("train.zip", "test.zip"), ("train-000000.tar", "Test_01.tar.gz")], ids=str)
def test_archives_in_a_folder_are_read_and_may_be_splits(folder: Path, tmp_path: Path, names: tuple[str, str]) -> None:
    pictures = fill(tmp_path / "plain", 24)
    for name, numbers in zip(names, (range(4, 24), range(4)), strict=True):
        pack(folder / name, {f"{number}.png": png(pictures[f"{number:02}.png"]) for number in numbers})
    (folder / "LICENSE").write_text("words")
    (folder / "meta.json").write_text("{}")
    data = load_data_set(folder)
    assert sizes(data) == (19, 1, 4)
    assert data.test is not None
    expected = {pictures[f"{number:02}.png"].tobytes() for number in range(4)}
    assert {image.tobytes() for image in data.test} == expected


def test_shards_are_one_data_set_and_beside_pictures_archives_are_not_used(folder: Path, tmp_path: Path) -> None:
    pictures = fill(tmp_path / "plain", 26)
    names = sorted(pictures)
    pack(folder / "a-0.tar", {"0.png": png(pictures[names[0]]), "0.json": b"{}"})
    pack(folder / "a-1.tar", {f"{number}.png": png(pictures[name]) for number, name in enumerate(names[1:])})
    assert {image.tobytes() for image in everything(load_data_set(folder))} == {p.tobytes() for p in pictures.values()}
    fill(folder, 24)
    said: list[str] = []
    assert sum(sizes(load_data_set(folder, notify=said.append))) == 24
    assert said[-1] == f"{folder} also holds files that are not used: 2 .tar"


def test_an_archive_is_read_once_and_again_when_it_changes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder)
    archive = pack(tmp_path / "a.tgz", files_in(folder))
    first = load_data_set(archive)
    read: list[Path] = []

    def watched(path: Path) -> object:
        read.append(path)
        return open_archive(path)

    monkeypatch.setattr(picture_sources, "open_archive", watched)
    assert same(load_data_set(archive), first)
    assert not read
    fill(folder, 30)
    pack(archive, files_in(folder))
    assert same(load_data_set(archive), load_data_set(folder))
    assert read == [archive]


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

    with pytest.raises(DataError, match=rf"cannot read {archive}/x\.png: it is not in a picture format"):
        load_pictures([archive], (1, 6, 8))
    found = load_pictures([archive], (1, 6, 8), skip_bad=True)
    assert found.names == [f"{archive}/{name}" for name in files if name.startswith(("0", "1", "2"))]
    assert [bad.partition(":")[0] for bad in found.bad] == [
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
    directory = content.rindex(b"PK\x01\x02" + content[content.index(b"PK\x01\x02") + 4 :][:4])  # of any entry
    entry = content.index(second.filename.encode(), content.index(b"PK\x01\x02")) - 46
    content[entry + 8] |= 1  # encrypted
    assert directory > 0
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"2 files in ") as raised:
        load_data_set(path)
    assert f"{first.filename}: Bad CRC-32" in str(raised.value)
    assert f"{second.filename}: " in str(raised.value)
    assert "encrypted" in str(raised.value)


def test_an_archive_without_pictures_is_refused_in_words(tmp_path: Path) -> None:
    empty, others = pack(tmp_path / "empty.zip", {}), pack(tmp_path / "others.tar", {"a.txt": b"words"})
    with pytest.raises(DataError, match=r"empty\.zip holds no pictures: it is empty"):
        load_data_set(empty)
    with pytest.raises(DataError, match=r"others\.tar holds no pictures: only other files \(1 \.txt\)"):
        load_data_set(others)
    for path in (empty, others):
        with pytest.raises(DataError, match=f"{path} holds no pictures"):
            load_pictures([path], (1, 6, 8))


def test_what_is_called_an_archive_and_is_none_is_named(folder: Path) -> None:
    (folder / "a.zip").write_bytes(gzip.compress(b"words"))
    with pytest.raises(DataError, match=r"a\.zip is no \.npy, .* no zip or tar archive"):
        load_data_set(folder)


def test_encode_reads_archives_of_any_pictures(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    fill(folder / "p", 3)
    shutil.copy(folder / "p/00.png", folder / "p/kept.bin")
    for kind in KINDS:
        pack(folder / f"a.{kind}", {f"cats/{name}": content for name, content in files_in(folder / "p").items()})
    rows = {}
    for place in ("p", *(f"a.{kind}" for kind in KINDS)):
        run("encode", place, "--model", TINY)
        rows[place] = [line.partition(",") for line in capsys.readouterr().out.splitlines()[1:]]
        assert [values for _, _, values in rows[place]] == [values for _, _, values in rows["p"]]
    assert [name for name, *_ in rows["a.tgz"]] == [f"a.tgz/cats/{number:02}.png" for number in range(3)]


def test_pictures_are_read_from_many_threads(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vae_gen.picture_folders.usable_cpus", lambda: 8)
    fill(folder, 400, 16, 16)
    expected = load_data_set(folder)
    for kind in ("zip", "tar", "tgz"):
        assert same(load_data_set(pack(tmp_path / f"a.{kind}", files_in(folder))), expected)


def test_millions_of_members_are_not_all_kept(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", {f"{number}.png": b"" for number in range(2000)})
    kept: list[int] = []
    following = tarfile.TarFile.next

    def watched(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        kept.append(len(tar.members))  # type: ignore[attr-defined]
        return following(tar)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives.tarfile.TarFile, "next", watched)
        with open_archive(path) as archive:
            assert archive is not None
            assert len(archive.sizes) == 2000
    assert max(kept) <= 1
