"""What vae-gen writes beside images, or draws of them, is taken for none of them by whatever reads the folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vae_gen.data.datasets import load_data_set
from vae_gen.data.pictures import load_pictures
from vae_gen.errors import OutputError
from vae_gen.generator import jobs

from tests.runs import TINY, sample
from tests.runtime.commands import run

pytestmark = pytest.mark.usefixtures("elsewhere", "cache")

RUN = ("--n", 14, "--seed", 3, "--grid", "2x2", "--latents")
NAMES = [f"out/{index:09d}.png" for index in range(14)]


def names(*paths: str) -> list[str]:
    return load_pictures(map(Path, paths), (3, 5, 4)).names


def local(*paths: str) -> list[str]:
    """The paths as this system writes them."""
    return [str(Path(path)) for path in paths]


def test_a_folder_of_pictures_is_read_without_its_sheet_and_latents() -> None:
    sample(*RUN, "--out", "out")
    assert {"grid.png", "latents.npy"} < {path.name for path in Path("out").iterdir()}
    assert names("out") == local(*NAMES)
    assert names("out/grid.png") == local("out/grid.png")  # whoever names it means it


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_so_is_that_folder_in_an_archive(kind: str) -> None:
    sample(*RUN, "--out", "out")
    archive = shutil.make_archive("packed", kind, ".", "out")
    assert names(archive) == [f"{archive}/{name}" for name in NAMES]
    said: list[str] = []
    data = load_data_set(Path(archive), notify=said.append)
    assert len(data.train) + len(data.validation) + len(data.test) == 14
    assert said[-1] == f"{archive} also holds files that are not used: 1 .json, 1 .npy, 1 drawn by vae-gen"


def test_so_are_shards_and_a_run_that_is_not_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    for shard in range(2):
        sample(*RUN, "--out", "out", "--shard", f"{shard}/2")
    assert names("out") == local(*NAMES)

    def fail(*arguments: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(jobs, "make_part", fail)
    sample(*RUN, "--out", "begun", status=1)
    assert sorted(path.name for path in Path("begun").iterdir()) == [".vae-gen", "grid.png"]
    Image.new("RGB", (4, 5)).save("begun/mine.png")
    assert names("begun") == local("begun/mine.png")


def test_so_are_arrays_in_parts_and_one_of_a_name_of_its_own() -> None:
    sample(*RUN, "--out", "out", "--format", "npy", "--shard-size", 10)
    assert names("out") == local(
        *(f"out/000000.npy[{number}]" for number in range(10)),
        *(f"out/000001.npy[{number}]" for number in range(4)),
    )
    sample(*RUN, "--out", "files/a[1].npy")
    assert {"a[1].grid.png", "a[1].latents.npy"} < {path.name for path in Path("files").iterdir()}
    assert names("files") == local(*(f"files/a[1].npy[{number}]" for number in range(14)))


def test_manifests_are_read_once_however_many_arrays_they_stand_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    sample(*RUN, "--out", "out/parts", "--format", "npy", "--shard-size", 1)
    for name in ("a.npy", "b.npy", "c.d.npy"):
        sample(*RUN, "--out", f"out/files/{name}")
    sample("--n", 2, "--seed", 3, "--out", "out/files/without.npy")
    np.save("out/files/without.latents.npy", np.zeros((2, 3, 5, 4), np.uint8))  # somebody's own
    read: list[Path] = []
    searched: list[tuple[Path, str]] = []
    read_bytes, glob = Path.read_bytes, Path.glob

    def watched_read(path: Path) -> bytes:
        read.append(path)
        return read_bytes(path)

    def watched_glob(folder: Path, pattern: str) -> Iterator[Path]:
        searched.append((folder, pattern))
        return glob(folder, pattern)

    monkeypatch.setattr(Path, "read_bytes", watched_read)
    monkeypatch.setattr(Path, "glob", watched_glob)
    assert len(names("out")) == 14 + 3 * 14 + 2 + 2
    files = ("parts/manifest.json", *(f"files/{name}.npy.manifest.json" for name in ("a", "b", "c.d", "without")))
    assert sorted(read) == sorted(Path("out", file) for file in files)
    assert len(searched) == len(set(searched))


def test_a_data_set_leaves_the_sheet_out_and_says_so() -> None:
    sample(*RUN, "--out", "runs/out")
    said: list[str] = []
    data = load_data_set(Path("runs"), notify=said.append)
    assert data.test is not None
    assert sum(map(len, (data.train, data.validation, data.test))) == 14
    assert said[-1] == "runs also holds files that are not used: 1 .json, 1 .npy, 1 drawn by vae-gen"


def test_a_data_set_leaves_out_what_training_runs_have_drawn() -> None:
    sample(*RUN, "--out", "pictures")
    for folder in ("pictures/runs/mlp", "pictures/runs/conv"):
        Path(folder, "reconstructions").mkdir(parents=True)
        for name in ("checkpoint.safetensors", "samples.png", "reconstructions/step-000500.png"):
            Path(folder, name).write_bytes(Path("pictures/grid.png").read_bytes())
    said: list[str] = []
    data = load_data_set(Path("pictures"), notify=said.append)
    assert data.test is not None
    assert sum(map(len, (data.train, data.validation, data.test))) == 14
    assert said[-1].endswith("files that are not used: 1 .json, 1 .npy, 1 drawn by vae-gen, 6 of training runs")


FIGURES = {
    "reconstruct.png": ("reconstruct", "pictures/000000000.png"),
    "traverse.gif": ("traverse", "--seed", 1, "--frames", 3),
    "traverse.png": ("traverse", "--seed", 1, "--sheet"),
    "traverse.apng": ("traverse", "--seed", 1, "--frames", 3),
    "interpolate.webp": ("interpolate", 1, 2, "--frames", 3),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_no_picture_of_the_folder_that_it_is_put_into(name: str) -> None:
    sample("--n", 14, "--seed", 3, "--out", "pictures")
    found = names("pictures")
    assert len(found) == 14
    for _ in range(2):  # it may be drawn anew: it has not been read
        run(*FIGURES[name], "--model", TINY, "--out", f"pictures/{name}", "--quiet")
    with Image.open(f"pictures/{name}") as picture:
        assert getattr(picture, "n_frames", 1) == (3 if "--frames" in FIGURES[name] else 1)
    assert names("pictures") == found
    assert names(f"pictures/{name}") == local(f"pictures/{name}")  # whoever names it means it
    said: list[str] = []
    data = load_data_set(Path("pictures"), notify=said.append)
    assert data.test is not None
    assert sum(map(len, (data.train, data.validation, data.test))) == 14
    assert data.image_shape == (3, 5, 4)
    assert said[-1] == "pictures also holds files that are not used: 1 .json, 1 drawn by vae-gen"


def test_reconstruct_may_draw_twice_into_the_folder_that_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    sample("--n", 14, "--seed", 3, "--out", "pictures")
    monkeypatch.chdir("pictures")
    run("reconstruct", ".", "--model", TINY, "--quiet")
    first = Path("reconstruct.png").read_bytes()
    run("reconstruct", ".", "--model", TINY, "--quiet")
    assert Path("reconstruct.png").read_bytes() == first


def test_a_picture_with_another_comment_is_one() -> None:
    Path("pictures").mkdir()
    Image.new("P", (4, 5)).save("pictures/a.gif", comment="a figure of mine")
    Image.new("RGB", (4, 5)).save("pictures/b.jpg", comment="by vae-gen")
    assert names("pictures") == local("pictures/a.gif", "pictures/b.jpg")


@pytest.mark.parametrize(
    "manifest",
    [None, "[", "[]", '{"name": "my web page", "grid": "3x3"}', '{"decoder_sha256": "0", "grid": null}'],
)
def test_a_picture_of_ones_own_is_one_whatever_it_is_called(manifest: str | None) -> None:
    for folder in ("pictures", "arrays"):
        Path(folder).mkdir()
        if manifest is not None:
            Path(folder, "manifest.json").write_text(manifest)
    for name in ("grid.png", "power.grid.png", "powergrid.png"):
        Image.new("RGB", (4, 5)).save(Path("pictures", name))
    np.save("arrays/latents.npy", np.zeros((2, 3, 5, 4), np.uint8))
    assert names("pictures") == local("pictures/grid.png", "pictures/power.grid.png", "pictures/powergrid.png")
    assert names("arrays") == local("arrays/latents.npy[0]", "arrays/latents.npy[1]")


def test_a_name_that_only_ends_alike_is_a_picture() -> None:
    sample(*RUN, "--out", "out")
    Image.new("RGB", (4, 5)).save("out/powergrid.png")
    assert json.loads(Path("out/manifest.json").read_text())["grid"] == "2x2"
    assert names("out") == local(*NAMES, "out/powergrid.png")
