"""Zip and tar archives of pictures: each is what the same files in a folder are."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from vae_gen.data import archives, picture_sources
from vae_gen.data.archives import open_archive
from vae_gen.data.datasets import load_data_set
from vae_gen.data.options import DataOptions
from vae_gen.data.pictures import load_pictures
from vae_gen.errors import DataError

from tests.runs import TINY
from tests.runtime.archive_files import KINDS, blank, files_in, pack, png, same
from tests.runtime.commands import run
from tests.runtime.data_files import everything, fill, sizes

pytestmark = pytest.mark.usefixtures("cache")


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
    monkeypatch.setattr("vae_gen.data.picture_sets.usable_cpus", lambda: 8)
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


def test_links_in_a_tar_archive_are_what_they_lead_to(folder: Path, tmp_path: Path) -> None:
    pictures = fill(folder / "a", 14)
    content = {name: file for name, file in files_in(folder).items() if name.startswith("a/")}
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(blank("d/before.png", tarfile.SYMTYPE, "../d/a/03.png"))
        for name, file in content.items():
            member = blank(f"d/{name}")
            member.size = len(file)
            tar.addfile(member, io.BytesIO(file))
        tar.addfile(blank("d/hard.png", tarfile.LNKTYPE, "d/a/00.png"))
        tar.addfile(blank("d/b/soft.png", tarfile.SYMTYPE, "../a/01.png"))
        tar.addfile(blank("d/again.png", tarfile.SYMTYPE, "b/soft.png"))
        tar.addfile(blank("d/of a folder", tarfile.SYMTYPE, "a"))
        tar.addfile(blank("d/nowhere.png", tarfile.SYMTYPE, "../../x.png"))
        tar.addfile(blank("d/loop.png", tarfile.SYMTYPE, "loop.png"))
    with open_archive(path) as archive:
        assert archive is not None
        for name, of in (("before", "03"), ("hard", "00"), ("b/soft", "01"), ("again", "01")):
            assert archive.read(f"d/{name}.png") == content[f"a/{of}.png"]
    with pytest.raises(DataError, match=r"2 files in .*\n  loop\.png: it is empty\n  nowhere\.png: it is empty\n"):
        load_data_set(path)
    data = load_data_set(path, DataOptions(skip_bad=True))
    assert sum(sizes(data)) == 18
    assert {image.tobytes() for image in everything(data)} == {picture.tobytes() for picture in pictures.values()}


def test_a_zip_archive_of_more_files_than_its_end_can_count(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {f"{number}.txt": b"" for number in range(70_000)})
    with open_archive(path) as archive:
        assert archive is not None
        assert len(archive.sizes) == 70_000


def test_archives_are_not_used_beside_nameless_pictures_and_are_beside_a_sheet(folder: Path, tmp_path: Path) -> None:
    pictures = fill(tmp_path / "plain", 24)
    for number, picture in enumerate(pictures.values()):
        (folder / f"{number}").write_bytes(png(picture))
    pack(folder / "labels.zip", {"a.txt": b"words"})
    assert sum(sizes(load_data_set(folder))) == 24

    run("sample", "--model", TINY, "--n", 14, "--format", "tar", "--grid", "2x2", "--out", tmp_path / "made")
    (tmp_path / "made/LICENSE").write_text("words")
    said: list[str] = []
    assert sum(sizes(load_data_set(tmp_path / "made", notify=said.append))) == 14
    assert said[-1].endswith("made also holds files that are not used: 14 .json, 3 beside the archives")


@pytest.mark.parametrize("count", [1, 2])
def test_splits_within_the_archives_of_a_folder(folder: Path, tmp_path: Path, count: int) -> None:
    plain = tmp_path / "plain"
    for split, each in (("train", 18), ("test", 6)):
        fill(plain / split, each)
    files = sorted(files_in(plain).items())
    for number in range(count):
        pack(folder / f"{number}.zip", dict(files[number::count]))
    found = load_data_set(folder)
    assert sizes(found) == sizes(load_data_set(plain)) == (17, 1, 6)
    assert found.test_sha256 is not None
    assert found.test is not None
    assert {image.tobytes() for image in found.test} == {p.tobytes() for p in fill(plain / "test", 6).values()}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train-000000-of-000002.tar", "test-00.tar"),
        ("imagenet-train-000000.tar", "imagenet-val-000000.tar"),
        ("cats_train.zip", "cats_test.tgz"),
    ],
)
def test_names_of_archives_that_are_splits(folder: Path, tmp_path: Path, train: str, test: str) -> None:
    pictures = list(fill(tmp_path / "plain", 24).values())
    pack(folder / train, {f"{number}.png": png(picture) for number, picture in enumerate(pictures[:20])})
    pack(folder / test, {f"{number}.png": png(picture) for number, picture in enumerate(pictures[20:])})
    data = load_data_set(folder)
    held_out = data.validation if "val" in test else data.test
    assert held_out is not None
    assert {image.tobytes() for image in held_out} == {picture.tobytes() for picture in pictures[20:]}


@pytest.mark.parametrize("above", ["/", "//x/", "../", "../../d/", "/a/../b/"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_of_an_archive_are_as_unpacking_makes_them(
    folder: Path, tmp_path: Path, kind: str, above: str
) -> None:
    fill(folder)
    archive = pack(tmp_path / f"a.{kind}", {above + name: content for name, content in files_in(folder).items()})
    assert same(load_data_set(archive), load_data_set(folder))
    mixed = {above * (number % 2) + name: file for number, (name, file) in enumerate(files_in(folder).items())}
    assert sum(sizes(load_data_set(pack(tmp_path / f"mixed.{kind}", mixed)))) == 24


def test_a_zip_archive_made_with_backslashes(folder: Path, tmp_path: Path) -> None:
    for split, count in (("train", 18), ("test", 6)):
        fill(folder / split, count)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files_in(folder).items():
            member = zipfile.ZipInfo(name)
            member.filename = f"d/{name}".replace("/", "\\")
            archive.writestr(member, content)
    assert same(load_data_set(path), load_data_set(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_shards_need_few_open_files(folder: Path, kind: str) -> None:
    resource = pytest.importorskip("resource")
    for number in range(200):
        pack(folder / f"{number}.{kind}", {"0.png": png(np.full((6, 8), number, np.uint8))})
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 30, before[1]))
    try:
        data = load_data_set(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert sum(sizes(data)) == 200


@pytest.mark.skipif(os.name == "nt", reason="the system has no such pipes")
@pytest.mark.parametrize("kind", KINDS)
def test_encode_reads_an_archive_from_a_pipe_and_leaves_nothing_behind(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    fill(folder)
    content = pack(tmp_path / f"a.{kind}", files_in(folder)).read_bytes()
    pipe, temporary = tmp_path / "pipe", tmp_path / "temporary"
    os.mkfifo(pipe)
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    Thread(target=pipe.write_bytes, args=[content], daemon=True).start()
    found = load_pictures([pipe], (1, 6, 8))
    assert [name.removeprefix(f"{pipe}/") for name in found.names] == sorted(files_in(folder))
    np.testing.assert_array_equal(found.images, load_pictures([folder], (1, 6, 8)).images)
    assert not list(temporary.iterdir())


def test_names_that_are_no_text_can_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with tarfile.open("latin.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        for name in ("\xe9t\xe9.png", "x.png"):
            content = png(np.zeros((5, 4), np.uint8))
            member = blank(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    run("encode", "latin.tar", "--model", TINY, "--out", "z.csv")
    assert "latin.tar/\ufffdt\ufffd.png," in Path("z.csv").read_text("utf-8")


def test_encode_reads_folders_of_gzipped_archives(folder: Path) -> None:
    fill(folder / "p", 3)
    packed = {f"{number}.png": file for number, file in enumerate(files_in(folder / "p").values())}
    (folder / "shards").mkdir()
    for name in ("a.tgz", "b.tar.gz"):
        pack(folder / "shards" / name, packed)
    assert len(load_pictures([folder / "shards"], (1, 6, 8)).names) == 6
