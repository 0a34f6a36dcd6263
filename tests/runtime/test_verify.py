"""vae-gen verify: what is whole passes, and what it says of the rest is told in few words."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from vae_gen import cpus
from vae_gen.cli import main
from vae_gen.cli import verify as command
from vae_gen.generator import workers
from vae_gen.generator.workers import local_processes
from vae_gen.shell import quoted

from tests.runs import TINY, tree
from tests.runtime.commands import stream_of
from tests.runtime.verification import CONTAINERS, FOLDERS, Capture, check, problems, sample

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.parametrize("options", [(), ("--latents",), ("--grid", "2x3"), ("--no-metadata",)], ids=str)
@pytest.mark.parametrize("format", ["png", *CONTAINERS])
def test_a_whole_run_passes(format: str, options: tuple[str, ...]) -> None:
    sample("--n", 50, "--format", format, "--out", "out", *options)
    whole = {"out": "out", "good": True, "images": 50, "good_images": 50, "parts": 1, "problems": [], "commands": []}
    assert check() == whole
    if format != "png":
        sample("--n", 50, "--out", f"a.{format}", *options)
        assert check(f"a.{format}") == whole | {"out": f"a.{format}"}
        sample("--n", 50, "--format", format, "--shard-size", 20, "--out", "parts", *options)
        assert check("parts") == whole | {"out": "parts", "parts": 3}


def test_folders_of_pictures_pass(capsys: Capture) -> None:
    sample(*FOLDERS, "--out", "out", "--latents")
    assert check()["parts"] == 4
    assert main(["verify", "out"]) == 0
    assert capsys.readouterr() == ("", "10052 images in 4 parts: as the manifest says\n")


@pytest.mark.parametrize("format", ["png", *CONTAINERS])
def test_shards_pass_when_all_are_there(format: str) -> None:
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


def test_every_missing_shard_has_its_command(capsys: Capture) -> None:
    sample("--n", 50, "--format", "npy", "--out", "out", "--shard", "2/30")
    capsys.readouterr()
    report = check()
    assert problems(report) == ["shards: 29 of 30 are missing or unfinished: 0/30, 1/30, 3/30, ..."]
    missing = [shard for shard in range(30) if shard != 2]
    assert [command.split(" --shard ")[1].split()[0] for command in report["commands"]] == [f"{m}/30" for m in missing]
    capsys.readouterr()
    assert main(["verify", "out"]) == 1
    *_, last, more = capsys.readouterr().err.splitlines()
    assert "--shard 20/30" in last
    assert more == "9 more; --json lists them"


@pytest.mark.parametrize("out", ["again", "again.tar", "again.npy"])
def test_what_decode_makes_can_be_verified(out: str) -> None:
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


@pytest.mark.parametrize("out", ["out", "out.npy"])
@pytest.mark.parametrize("z", ["-", "a - b.csv"])
def test_who_decoded_standard_input_is_told_to_give_it_again(
    out: str, z: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a - b.csv").write_text("1,2,3\n4,5,6\n")
    decode = ["decode", "--model", TINY, "--z", z, "--out", out, "-q"]
    for again in ([], ["--overwrite"]):
        monkeypatch.setattr("sys.stdin", stream_of("1,2,3\n4,5,6\n"))
        assert main([*decode, *again]) == 0
        assert check(out)["good"]
        (Path(out) if "." in out else Path(out, "000000001.png")).unlink()
        capsys.readouterr()
        for discard in ([], ["--discard"]):
            assert main(["verify", out, "-q", *discard]) == 1
            said = capsys.readouterr().err.splitlines()
            assert said[-2].endswith(", with the same latents on standard input:") == (z == "-")
            kind = "npy" if "." in out else "png"
            assert said[-1].endswith(f"--z {quoted(z)} --format {kind} --out {out} --overwrite")


def test_decoding_fewer_leaves_none_of_those_before() -> None:
    sample("--n", 9, "--out", "a.npy", "--latents")
    assert main(["decode", "--model", TINY, "--z", "a.latents.npy", "--out", "out", "-q"]) == 0
    assert main(["decode", "--model", TINY, "--z", "1,2,3", "--out", "out", "-q", "--overwrite"]) == 0
    assert set(tree("out")) == {"000000000.png", "manifest.json"}
    assert check()["images"] == 1


def test_pixels_count_and_not_how_they_are_compressed() -> None:
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


def test_a_shard_of_another_run_is_named() -> None:
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


def test_processes_report_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    sample("--n", 60, "--format", "tar", "--shard-size", 10, "--out", "out")
    Path("out/000001.tar").unlink()
    shutil.copy("out/000002.tar", "out/000004.tar")
    alone = check("out", "--workers", "1")
    assert len(alone["problems"]) == 2
    asked: list[int] = []

    @contextmanager
    def processes(count: int) -> Iterator[Executor]:
        asked.append(count)
        with local_processes(count) as pool:
            yield pool

    monkeypatch.setattr(workers, "local_processes", processes)
    monkeypatch.setattr(cpus, "usable_cpus", lambda: 2)
    assert check("out", "--workers", "2") == check("out") == alone
    monkeypatch.setattr(command, "IMAGES_WORTH_PROCESSES", 0)
    assert check("out") == alone
    assert asked == [2, 2]  # of so few images only when it is asked for


def test_many_problems_are_not_all_printed(capsys: Capture) -> None:
    sample("--n", 30, "--format", "npy", "--shard-size", 1, "--out", "out")
    for path in Path("out").glob("*.npy"):
        path.unlink()
    assert main(["verify", "out"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "10 more; --json lists them all"
    assert len(check()["problems"]) == 30
