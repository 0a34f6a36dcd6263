"""vae-gen verify: what is whole passes, and whatever is wrong with the rest is found and said."""

from __future__ import annotations

import json
import random
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from vae_gen import jobs
from vae_gen.cli import main
from vae_gen.cli import verify as command
from vae_gen.containers import open_container, read_container

from tests.conftest import MODELS

TINY = str(MODELS / "tiny")
ARRAYS = ("npy", "npz", "idx")
CONTAINERS = (*ARRAYS, "tar", "zip")
FOLDERS = ("--indices", "0-20,9990-10010,20000-30009")  # 4 folders of PNG files: 31, 11, 10,000 and 10

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sample(*arguments: object, status: int = 0) -> None:
    assert main(["sample", "--model", TINY, "--quiet", "--seed", "3", *map(str, arguments)]) == status


def tree(folder: str) -> dict[str, bytes]:
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture
def check(capsys: Capture) -> Callable[..., dict[str, Any]]:
    """Runs verify --json, and compares what it says with its exit status; returns the JSON."""

    def run(out: str = "out", *options: str) -> dict[str, Any]:
        capsys.readouterr()
        status = main(["verify", out, "--json", *options])
        printed = capsys.readouterr()
        report = json.loads(printed.out)
        assert status == (0 if report["good"] else 1)
        assert report["good"] == (report["problems"] == [])
        assert "Traceback" not in printed.err
        return report

    return run


def problems(report: dict[str, Any]) -> list[str]:
    return [f"{each['part']}: {each['problem']}" for each in report["problems"]]


@pytest.mark.parametrize("options", [(), ("--latents",), ("--grid", "2x3"), ("--no-metadata",)], ids=str)
@pytest.mark.parametrize("format", ["png", *CONTAINERS])
def test_a_whole_run_passes(format: str, options: tuple[str, ...], check: Callable[..., dict[str, Any]]) -> None:
    sample("--n", 50, "--format", format, "--out", "out", *options)
    whole = {"out": "out", "good": True, "images": 50, "good_images": 50, "parts": 1, "problems": [], "commands": []}
    assert check() == whole
    if format != "png":
        sample("--n", 50, "--out", f"a.{format}", *options)
        assert check(f"a.{format}") == whole | {"out": f"a.{format}"}
        sample("--n", 50, "--format", format, "--shard-size", 20, "--out", "parts", *options)
        assert check("parts") == whole | {"out": "parts", "parts": 3}


def test_folders_of_pictures_pass(check: Callable[..., dict[str, Any]], capsys: Capture) -> None:
    sample(*FOLDERS, "--out", "out", "--latents")
    assert check()["parts"] == 4
    assert main(["verify", "out"]) == 0
    assert capsys.readouterr() == ("", "10052 images in 4 parts: as the manifest says\n")


@pytest.mark.parametrize("format", ["png", *CONTAINERS])
def test_shards_pass_when_all_are_there(format: str, check: Callable[..., dict[str, Any]]) -> None:
    for shard in range(3):
        sample("--n", 50, "--format", format, "--out", "out", "--shard", f"{shard}/3", "--latents")
        if shard < 2:
            report = check()
            some = ", ".join(f"{missing}/3" for missing in range(shard + 1, 3))
            assert problems(report) == [f"shards: {2 - shard} of 3 are missing or unfinished: {some}"]
            assert report["commands"] == [
                f"vae-gen sample --model {TINY} --seed 3 --n 50 --format {format} --shard {missing}/3 --latents "
                "--out out --resume"
                for missing in range(shard + 1, 3)
            ]
    assert check() == check() | {"good": True, "images": 50, "parts": 3}


@pytest.mark.parametrize("out", ["again", "again.tar", "again.npy"])
def test_what_decode_makes_can_be_verified(out: str, check: Callable[..., dict[str, Any]]) -> None:
    sample("--n", 9, "--out", "a.npy", "--latents")
    decode = ["decode", "--model", TINY, "--z", "a.latents.npy", "--out", out, "-q"]
    assert main(decode) == 0
    assert check(out)["images"] == 9
    path = Path(out) if "." in out else Path(out, "000000004.png")
    path.unlink()
    (line,) = check(out)["commands"]
    assert line.endswith(f"--out {out} --overwrite")
    assert main(line.split()[1:]) == 0
    assert check(out)["good"]


def test_decoding_fewer_leaves_none_of_those_before(check: Callable[..., dict[str, Any]]) -> None:
    sample("--n", 9, "--out", "a.npy", "--latents")
    assert main(["decode", "--model", TINY, "--z", "a.latents.npy", "--out", "out", "-q"]) == 0
    assert main(["decode", "--model", TINY, "--z", "1,2,3", "--out", "out", "-q", "--overwrite"]) == 0
    assert set(tree("out")) == {"000000000.png", "manifest.json"}
    assert check()["images"] == 1


def test_pixels_count_and_not_how_they_are_compressed(check: Callable[..., dict[str, Any]]) -> None:
    sample("--n", 5, "--out", "out")
    for path in Path("out").glob("*.png"):
        before = path.read_bytes()
        with Image.open(path) as picture:
            picture.save(path, compress_level=9)
        assert path.read_bytes() != before
    assert check()["good"]
    sample("--n", 5, "--out", "a.zip")
    with zipfile.ZipFile("a.zip") as old, zipfile.ZipFile("b.zip", "w") as new:
        for path in sorted(Path("out").glob("*.png")):
            new.writestr(path.name, path.read_bytes())
        assert new.namelist() == old.namelist()
    shutil.move("b.zip", "a.zip")
    assert check("a.zip")["good"]


# Damage


def change_a_pixel(path: Path) -> None:
    with Image.open(path) as picture:
        pixels = np.asarray(picture).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)


def swap(first: str, second: str) -> None:
    a, b = Path(first).read_bytes(), Path(second).read_bytes()
    assert a != b
    Path(first).write_bytes(b)
    Path(second).write_bytes(a)


def change_a_byte(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[], object], str]] = {
    "missing": (lambda: Path("out/000000003.png").unlink(), r"\.: 1 of 20 images are missing: 000000003\.png"),
    "empty": (
        lambda: Path("out/000000003.png").write_bytes(b""),
        r"\.: out holds a damaged picture, 000000003\.png: cannot identify image file.*",
    ),
    "cut off": (
        lambda: Path("out/000000003.png").write_bytes(Path("out/000000003.png").read_bytes()[:-20]),
        r"\.: out holds a damaged picture, 000000003\.png: .*",
    ),
    "a folder": (
        lambda: (Path("out/000000003.png").unlink(), Path("out/000000003.png").mkdir()),
        r"\.: cannot read out/000000003\.png: Is a directory",
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
def test_damaged_pictures_are_found_and_made_again(damage: str, check: Callable[..., dict[str, Any]]) -> None:
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


def mend(report: dict[str, Any]) -> None:
    """Do as verify advises."""
    assert main(["verify", report["out"], "--discard"]) == 1
    for line in report["commands"]:
        assert main([*line.split()[1:], "--quiet"]) == 0


def test_only_folders_that_are_damaged_are_made_again(
    check: Callable[..., dict[str, Any]], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        "Remove the parts that are named, or let verify --discard do so, and make them again:\n"
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
def test_damaged_containers_are_found_and_made_again(
    format: str, damage: str, check: Callable[..., dict[str, Any]]
) -> None:
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
        "missing": f"cannot read out/000001.{format}: No such file or directory",
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
        assert f"out/000001.{format}" in found
    assert report["good_images"] == 20
    assert len(report["commands"]) == 1
    mend(report)
    assert tree("out") == was


def test_every_byte_of_pixels_counts(check: Callable[..., dict[str, Any]]) -> None:
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


def test_a_single_file_that_is_gone_is_made_again(check: Callable[..., dict[str, Any]], capsys: Capture) -> None:
    sample("--n", 4, "--out", "a b.tar", "--latents")
    was = tree(".")
    Path("a b.latents.npy").unlink()
    report = check("a b.tar")
    assert problems(report) == ["a b.tar: cannot read a b.latents.npy: No such file or directory"]
    assert main(["verify", "a b.tar"]) == 1
    way = f"vae-gen sample --model {TINY} --seed 3 --n 4 --format tar --latents --out 'a b.tar'"
    assert f"Error: a b.tar: 1 problem; 4 of 4 images are in damaged parts\nMake them again:\n{way} --overwrite\n" in (
        capsys.readouterr().err
    )
    sample("--n", 4, "--out", "a b.tar", "--latents", "--resume")
    assert tree(".") == was
    Path("a b.tar").unlink()
    sample("--n", 4, "--out", "a b.tar", "--latents", "--resume")
    assert tree(".") == was


@pytest.mark.parametrize("format", ["png", "npy"])
def test_latents_are_checked(format: str, check: Callable[..., dict[str, Any]]) -> None:
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


def test_a_shard_of_another_run_is_named(check: Callable[..., dict[str, Any]]) -> None:
    for shard in range(2):
        sample("--n", 20, "--format", "npy", "--out", "out", "--shard", f"{shard}/2")
        sample("--n", 20, "--format", "npy", "--out", "other", "--shard", f"{shard}/2", "--seed", 4)
    shutil.copy("other/manifest.0001-of-0002.json", "out")
    assert problems(check()) == [
        "manifest.0001-of-0002.json: not of the same run as manifest.0000-of-0002.json: seed differs",
        "000001.npy: its pixels are not those of the manifest",
    ]
    shutil.copy("other/000001.npy", "out")
    assert problems(check())[1:] == []


def test_processes_report_the_same(check: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    sample("--n", 60, "--format", "tar", "--shard-size", 10, "--out", "out")
    Path("out/000001.tar").unlink()
    shutil.copy("out/000002.tar", "out/000004.tar")
    alone = check("out", "--workers", "1")
    assert len(alone["problems"]) == 2
    monkeypatch.setattr(command, "IMAGES_WORTH_PROCESSES", 0)
    assert check("out", "--workers", "2") == alone


def test_many_problems_are_not_all_printed(capsys: Capture, check: Callable[..., dict[str, Any]]) -> None:
    sample("--n", 30, "--format", "npy", "--shard-size", 1, "--out", "out")
    for path in Path("out").glob("*.npy"):
        path.unlink()
    assert main(["verify", "out"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "10 more; --json lists them all"
    assert len(check()["problems"]) == 30


# No run, or no manifest


@pytest.mark.parametrize(
    ("out", "status", "message"),
    [
        ("", 2, "an empty path"),
        ("-", 2, "- is standard output, which cannot be read"),
        ("nowhere", 1, "there is no nowhere/manifest.json; vae-gen sample writes one when all images are made"),
        ("nowhere.npy", 1, "there is no nowhere.npy.manifest.json"),
        ("empty", 1, "there is no empty/manifest.json"),
        ("file", 1, "there is no file/manifest.json"),
        ("unfinished", 1, "unfinished holds an unfinished run; vae-gen sample --resume makes the rest"),
        ("a.png", 2, "a.png names a picture"),
    ],
)
def test_what_is_no_complete_run_is_said(out: str, status: int, message: str, capsys: Capture) -> None:
    Path("empty").mkdir()
    Path("file").write_text("mine")
    Path("unfinished/.vae-gen").mkdir(parents=True)
    Path("unfinished/.vae-gen/run.json").write_text("{}")
    assert main(["verify", out]) == status
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"\xff\xfe\xfd", "can't decode"),
        (b"[]", "it holds no JSON object"),
        (b"null", "it holds no JSON object"),
        (b"[" * 200_000, "maximum recursion depth"),
        (b"{}", "its format is None"),
    ],
)
def test_a_manifest_that_is_none_is_named(content: bytes, message: str, capsys: Capture) -> None:
    Path("out").mkdir()
    Path("out/manifest.json").write_bytes(content)
    assert main(["verify", "out"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: out/manifest.json is no manifest of a run, or a damaged one: ")
    assert message in error


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "gif", "its format is 'gif'"),
        ("image_shape", [3, 5], "its image_shape is [3, 5]"),
        ("image_shape", [3, 5, 0], "its image_shape is [3, 5, 0]"),
        ("shards", 10**18, "its shards are 1000000000000000000, and by its name 1"),
        ("shard_size", 0, "its shard_size is 0"),
        ("indices", "0-x", "'0-x' is no index"),
        ("indices", "0-9223372036854775807", "its images are 12, and by its indices 9223372036854775808"),
        ("images", 13, "its images are 13, and by its indices 12"),
        ("latents", 1, "its latents is 1"),
        ("command", None, "its command is None"),
        ("parts", [], "it lists 0 parts, and its run has 3"),
        ("shard_size", 5 * 10**30, "it lists 3 parts, and its run has 1"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_said(key: str, value: object, message: str, capsys: Capture) -> None:
    sample("--n", 12, "--format", "npy", "--shard-size", 4, "--out", "out")
    manifest = json.loads(Path("out/manifest.json").read_text())
    Path("out/manifest.json").write_text(json.dumps(manifest | {key: value}))
    assert main(["verify", "out"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../out.npy"),
        ("indices", "0-4"),
        ("images", 5),
        ("pixels_sha256", "0" * 63),
        ("latents", "x"),
        ("name", 3),
    ],
)
def test_a_part_that_the_run_cannot_have_is_refused(key: str, value: object, capsys: Capture) -> None:
    sample("--n", 12, "--format", "npy", "--shard-size", 4, "--out", "out")
    manifest = json.loads(Path("out/manifest.json").read_text())
    manifest["parts"][1][key] = value
    Path("out/manifest.json").write_text(json.dumps(manifest))
    assert main(["verify", "out", "--discard"]) == 1
    assert "what it says of part 1 is not what its run has there" in capsys.readouterr().err
    assert len(list(Path("out").glob("*.npy"))) == 3


ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    3,
    10**30,
    1.5,
    float("nan"),
    "",
    "x",
    "0-5",
    "../x",
    [],
    [[]],
    {},
    {"a": 1},
    ["x"],
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to everything within some JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(way for key, item in inner for way in places(item, (*path, key)))]


@pytest.mark.parametrize(
    "what", [("png",), ("tar", "--shard-size", 4, "--latents"), ("npy", "--shard", "0/2")], ids=str
)
def test_no_manifest_makes_verify_or_sample_fall_over(what: tuple[object, ...], capsys: Capture) -> None:
    sample("--n", 12, "--out", "out", "--format", *what)
    path = next(Path("out").glob("manifest*"))
    text = path.read_text()
    dice = random.Random(str(what))
    for way in places(json.loads(text))[1:]:
        for odd in ["gone", *dice.sample(ODD, 4)]:
            manifest = json.loads(text)
            inner = manifest
            for key in way[:-1]:
                inner = inner[key]
            if odd == "gone":
                del inner[way[-1]]
            else:
                inner[way[-1]] = odd
            path.write_text(json.dumps(manifest))
            for words in (["verify", "out"], ["sample", "--model", TINY, "--seed", "4", "--out", "out", "--resume"]):
                status = main(words)
                printed = capsys.readouterr()
                assert status in (0, 1), (way, odd, printed)
                assert status == 0 or printed.err.startswith(("Error: ", "seed"))

    for _ in range(100):
        content = bytearray(text.encode())
        content[dice.randrange(len(content))] = dice.randrange(256)
        path.write_bytes(content)
        assert main(["verify", "out"]) in (0, 1)
    capsys.readouterr()
