"""vae-gen verify: whatever is damaged is found, and made again as it advises."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vae_gen.cli import main
from vae_gen.containers import open_container, read_container
from vae_gen.generator import jobs
from vae_gen.shell import quoted

from tests.runs import TINY, tree
from tests.runtime.verification import (
    CONTAINERS,
    FOLDERS,
    Capture,
    change_a_byte,
    change_a_pixel,
    check,
    mend,
    problems,
    sample,
)

pytestmark = pytest.mark.usefixtures("elsewhere")


def swap(first: str, second: str) -> None:
    a, b = Path(first).read_bytes(), Path(second).read_bytes()
    assert a != b
    Path(first).write_bytes(b)
    Path(second).write_bytes(a)


NO_FILE = "Permission denied" if os.name == "nt" else "Is a directory"  # says who opens a folder
DAMAGE: dict[str, tuple[Callable[[], object], str]] = {
    "missing": (lambda: Path("out/000000003.png").unlink(), r"\.: 1 of 20 images are missing: 000000003\.png"),
    "empty": (
        lambda: Path("out/000000003.png").write_bytes(b""),
        r"\.: out holds a damaged picture, 000000003\.png: it does not begin as PNG files do",
    ),
    "cut off": (
        lambda: Path("out/000000003.png").write_bytes(Path("out/000000003.png").read_bytes()[:-20]),
        r"\.: out holds a damaged picture, 000000003\.png: .*",
    ),
    "a folder": (
        lambda: (Path("out/000000003.png").unlink(), Path("out/000000003.png").mkdir()),
        re.escape(f".: cannot read {Path('out/000000003.png')}: {NO_FILE}"),
    ),
    "a pixel": (
        lambda: change_a_pixel(Path("out/000000003.png")),
        r"\.: its pixels are not those of the manifest",
    ),
    "swapped": (
        lambda: swap("out/000000003.png", "out/000000004.png"),
        r"\.: its pixels are not those of the manifest",
    ),
    "one more": (
        lambda: shutil.copy("out/000000003.png", "out/000000020.png"),
        r"\.: 1 in it that the manifest does not list: 000000020\.png",
    ),
    "other shape": (
        lambda: Image.new("RGB", (5, 4)).save("out/000000000.png"),
        r"\.: its images have the shape \(3, 4, 5\), not \(3, 5, 4\)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_pictures_are_found_and_made_again(damage: str) -> None:
    sample("--n", 20, "--out", "out", "--latents")
    was = tree("out")
    act, message = DAMAGE[damage]
    act()
    report = check()
    (found,) = problems(report)
    assert re.fullmatch(message, found)
    if damage == "one more":
        assert report["commands"] == []
        return
    assert (report["images"], report["good_images"]) == (20, 0)
    assert report["commands"] == [
        f"vae-gen sample --model {TINY} --seed 3 --n 20 --format png --latents --out out --resume"
    ]
    mend(report)
    assert tree("out") == was
    assert check()["good"]


def test_all_that_is_wrong_with_pictures_is_said_at_once(capsys: Capture) -> None:
    sample("--n", 20, "--out", "out")
    was = tree("out")
    Path("out/000000003.png").unlink()
    Path("out/000000004.png").write_bytes(b"no picture")
    for number in range(10, 15):
        Path(f"out/0000000{number}.png").write_bytes(was[f"0000000{number}.png"][:-1])
    report = check()
    assert problems(report)[0] == ".: 1 of 20 images are missing: 000000003.png"
    assert [problem["is_gone"] for problem in report["problems"]] == [True, False, False, False, False]
    for problem, name in zip(problems(report)[1:], ("000000004", "000000010", "000000011"), strict=False):
        assert problem.startswith(f".: out holds a damaged picture, {name}.png: ")
    assert problems(report)[4] == ".: 3 more pictures are damaged"
    capsys.readouterr()
    assert main(["verify", "out"]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("out: 1 of 20 images are missing: 000000003.png\nout: out holds a damaged picture, 0000")
    assert "Remove what is named, or let verify --discard do so, and make them again:\n" in said.err
    for path in [Path("out/000000004.png"), *Path("out").glob("00000001[0-4].png")]:
        path.unlink()
    assert main(["verify", "out"]) == 1
    assert "\nMake what is missing:\nvae-gen sample " in capsys.readouterr().err  # nothing is left to be removed
    assert main(check()["commands"][0].split()[1:]) == 0
    assert tree("out") == was


def test_latents_that_are_gone_with_a_picture_need_not_be_removed(capsys: Capture) -> None:
    sample("--n", 20, "--out", "out", "--latents")
    Path("out/000000003.png").unlink()
    Path("out/latents.npy").unlink()
    assert problems(check()) == [".: 1 of 20 images are missing: 000000003.png"]
    capsys.readouterr()
    assert main(["verify", "out"]) == 1
    assert "\nMake what is missing:\n" in capsys.readouterr().err
    mend(check())
    assert check()["good"]


def test_only_folders_that_are_damaged_are_made_again(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    sample(*FOLDERS, "--out", "out", "--latents")
    was = tree("out")
    Path("out/00001/000010007.png").unlink()
    change_a_pixel(Path("out/00003/000030000.png"))
    shutil.copy("out/00000/000000005.png", "out/00000/000000021.png")
    shutil.copytree("out/00001", "out/00004")
    report = check()
    assert problems(report) == [
        "00001: 1 of 11 images are missing: 000010007.png",
        "00003: its pixels are not those of the manifest",
        ".: 1 in it that the manifest does not list: 00004",
        "00000: 1 in it that the manifest does not list: 000000021.png",
    ]
    assert (report["images"], report["good_images"], report["parts"]) == (10052, 10031, 4)
    capsys.readouterr()
    assert main(["verify", "out"]) == 1
    assert capsys.readouterr().err == (
        "Error: out: 4 problems; 21 of 10,052 images are in damaged parts\n"
        "Remove what is named, or let verify --discard do so, and make them again:\n"
        f"vae-gen sample --model {TINY} --seed 3 --indices 0-20,9990-10010,20000-30009 --format png --latents "
        "--out out --resume\n"
    )
    made = []
    make_part = jobs.make_part
    monkeypatch.setattr(
        jobs, "make_part", lambda run, out, part, *a: made.append(part.name) or make_part(run, out, part, *a)
    )
    mend(report)
    assert made == ["00001", "00003"]
    assert problems(check()) == problems(report)[2:]
    shutil.rmtree("out/00004")
    Path("out/00000/000000021.png").unlink()
    assert tree("out") == was


@pytest.mark.parametrize("format", CONTAINERS)
@pytest.mark.parametrize("damage", ["missing", "cut off", "empty", "a byte", "other order", "fewer", "more", "another"])
def test_damaged_containers_are_found_and_made_again(format: str, damage: str) -> None:
    sample("--n", 30, "--format", format, "--shard-size", 10, "--out", "out", "--no-metadata")
    was = tree("out")
    path = Path(f"out/000001.{format}")
    with path.open("rb") as file:
        images = np.concatenate([images for _, images in read_container(format, file, "")])
    indices = list(range(10, 20))

    def rewrite(images: np.ndarray, indices: list[int]) -> None:
        with path.open("wb") as file:
            container = open_container(format, file, len(images), images.shape[1:])
            container.write(images, indices)
            container.close()

    match damage:
        case "missing":
            path.unlink()
        case "cut off":
            path.write_bytes(path.read_bytes()[: -11_000 if format == "tar" else -30])
        case "empty":
            path.write_bytes(b"")
        case "a byte":
            images[4, 0, 1, 2] ^= 1
            rewrite(images, indices)
        case "other order":
            rewrite(images[::-1], indices[::-1])
        case "fewer":
            rewrite(images[:9], indices[:9])
        case "more":
            rewrite(np.concatenate([images, images[:1]]), [*indices, 20])
        case "another":
            shutil.copy(path, f"out/000003.{format}")
    messages = {
        "missing": f"cannot read {path}: No such file or directory",
        "a byte": "its pixels are not those of the manifest",
        "fewer": "it holds 9 images, not 10",
        "more": "it holds 11 images, not 10",
        "other order": "its pixels are not those of the manifest",
    }
    if format in ("tar", "zip"):
        order = "its images are not those with the indices 10-19, in this order"
        messages |= {"other order": order, "more": order}
    report = check()
    (found,) = problems(report)
    if damage == "another":
        assert found == f".: 1 in it that the manifest does not list: 000003.{format}"
        assert report["commands"] == []
        return
    assert found.startswith(f"000001.{format}: {messages.get(damage, '')}")
    if damage in ("cut off", "empty"):
        assert str(path) in found
    assert report["good_images"] == 20
    assert len(report["commands"]) == 1
    mend(report)
    assert tree("out") == was


def test_every_byte_of_pixels_counts() -> None:
    sample("--n", 4, "--out", "a.npy")
    was = Path("a.npy").read_bytes()
    for place in range(128, len(was), 7):
        change_a_byte(Path("a.npy"), place)
        assert problems(check("a.npy")) == ["a.npy: its pixels are not those of the manifest"]
        Path("a.npy").write_bytes(was)
    for end in (0, 5, 50, 128, len(was) - 1):
        Path("a.npy").write_bytes(was[:end])
        assert problems(check("a.npy"))[0].startswith("a.npy: ")
    assert main([*check("a.npy")["commands"][0].split()[1:], "-q"]) == 0
    assert Path("a.npy").read_bytes() == was


def test_a_single_file_that_is_gone_is_made_again(capsys: Capture) -> None:
    sample("--n", 4, "--out", "a b.tar", "--latents")
    was = tree(".")
    Path("a b.latents.npy").unlink()
    report = check("a b.tar")
    assert problems(report) == ["a b.tar: cannot read a b.latents.npy: No such file or directory"]
    assert main(["verify", "a b.tar"]) == 1
    way = f"vae-gen sample --model {TINY} --seed 3 --n 4 --format tar --latents --out {quoted('a b.tar')}"
    assert f"Error: a b.tar: 1 problem; 4 of 4 images are in damaged parts\nMake them again:\n{way} --overwrite\n" in (
        capsys.readouterr().err
    )
    sample("--n", 4, "--out", "a b.tar", "--latents", "--resume")
    assert tree(".") == was
    Path("a b.tar").unlink()
    sample("--n", 4, "--out", "a b.tar", "--latents", "--resume")
    assert tree(".") == was


@pytest.mark.parametrize("format", ["png", "npy"])
def test_latents_are_checked(format: str) -> None:
    sample("--n", 4, "--format", format, "--out", "out", "--latents")
    path = next(Path("out").glob("*latents.npy"))
    was = path.read_bytes()
    part = "." if format == "png" else "000000.npy"
    change_a_byte(path, len(was) - 1)
    assert problems(check()) == [f"{part}: {path} holds latents that are not those of the manifest"]
    np.save(path, np.load(path).reshape(2, 6))
    assert problems(check()) == [f"{part}: {path} holds float32 of shape (2, 6), not latents of 4 images"]
    np.save(path, np.zeros((4, 3)))
    assert problems(check()) == [f"{part}: {path} holds float64 of shape (4, 3), not latents of 4 images"]
    path.write_bytes(was[:-4])
    assert problems(check()) == [f"{part}: {path} holds 44 bytes of latents, not 48"]
    for end in (0, 3, 9, 40):
        path.write_bytes(was[:end])
        assert problems(check())[0].startswith(f"{part}: cannot read {path}: ")
    path.unlink()
    assert problems(check()) == [f"{part}: cannot read {path}: No such file or directory"]
    mend(check())
    assert path.read_bytes() == was


@pytest.mark.parametrize(
    ("out", "sheet", "images"),
    [("out", "out/grid.png", ("--format", "tar", "--shard-size", 10)), ("a.npy", "a.grid.png", ())],
)
def test_a_contact_sheet_that_is_gone_is_found_and_made_again(
    out: str, sheet: str, images: tuple[object, ...], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample("--n", 20, "--grid", "2x3", "--out", out, *images)
    was = tree(".")
    Path(sheet).unlink()
    report = check(out)
    assert problems(report) == [f"{Path(sheet).name}: the contact sheet is missing"]
    assert (report["images"], report["good_images"]) == (20, 20)
    (command,) = report["commands"]
    capsys.readouterr()
    assert main(["verify", out]) == 1
    assert capsys.readouterr().err == f"Error: {out}: 1 problem\nMake what is missing:\n{command}\n"
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "make_part", None)
        mend(report)
    assert tree(".") == was
    assert check(out)["good"]


def test_a_contact_sheet_without_a_signature_is_damaged() -> None:
    sample("--n", 4, "--grid", "2x2", "--out", "out")
    content = Path("out/grid.png").read_bytes()
    Path("out/grid.png").write_bytes(b"X" * 8 + content[8:])
    assert [problem.split(": ")[-1] for problem in problems(check())] == ["it does not begin as PNG files do"]


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize(("out", "sheet"), [("out", "out/grid.png"), ("a.npy", "a.grid.png")])
def test_a_contact_sheet_that_is_damaged_is_found_and_made_again(
    out: str, sheet: str, discard: bool, capsys: Capture
) -> None:
    sample("--n", 20, "--grid", "2x3", "--out", out)
    was = tree(".")
    content = Path(sheet).read_bytes()
    endings = {len(content) - 12: "its end is missing", len(content) - 13: "a chunk's checksum is wrong"}
    for size, what in {0: "it does not begin as PNG files do", 8: "its end is missing", **endings}.items():
        Path(sheet).write_bytes(content[:size])
        (problem,) = problems(check(out))
        assert problem.startswith(f"{Path(sheet).name}: ")
        assert problem.endswith(f" holds a damaged picture, {Path(sheet).name}: {what}")
    capsys.readouterr()
    assert main(["verify", out, *["--discard"] * discard]) == 1
    first, advice, command = capsys.readouterr().err.splitlines()
    assert first == f"Error: {out}: 1 problem"
    by_hand = out == "out" and not discard
    remove = "Remove what is named, or let verify --discard do so, and make them again:"
    assert advice == (remove if by_hand else "Make them again:")
    assert Path(sheet).exists() == (not discard)
    if by_hand:
        Path(sheet).unlink()
    assert main([*command.split()[1:], "--quiet"]) == 0
    assert tree(".") == was
    assert check(out)["good"]


def test_a_contact_sheet_is_missed_once_with_whatever_else_is_gone() -> None:
    what = ("--n", 20, "--format", "npy", "--grid", "2x3")
    for shard in range(2):
        sample(*what, "--out", "out", "--shard", f"{shard}/2")
    was = tree("out")
    for name in ("grid.png", "000000.npy"):
        Path("out", name).unlink()
    report = check()
    assert [each["part"] for each in report["problems"]] == ["000000.npy", "grid.png"]
    assert report["commands"] == [
        f"vae-gen sample --model {TINY} --seed 3 --n 20 --format npy --shard 0/2 --grid 2x3 --out out --resume"
    ]
    mend(report)
    assert tree("out") == was
    Path("out/grid.png").unlink()
    Path("out/manifest.0000-of-0002.json").unlink()  # the shard that makes it is to be made anyway
    assert [each["part"] for each in check()["problems"]] == ["shards"]

    sample(*what, "--out", "a.npy")
    whole = tree(".")
    Path("a.npy").write_bytes(b"")
    Path("a.grid.png").unlink()
    (command,) = check("a.npy")["commands"]
    assert command.endswith("--grid 2x3 --out a.npy --overwrite")  # a file is made as a whole, and its sheet with it
    assert main([*command.split()[1:], "--quiet"]) == 0
    assert tree(".") == whole
