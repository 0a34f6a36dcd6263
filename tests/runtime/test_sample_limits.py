"""vae-gen sample at the edges: absurd numbers, options that contradict each other, odd places, two at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vae_gen.cli import main
from vae_gen.generator.runs import MAX_PARTS

from tests.runs import TINY, VAE_GEN, tree, until
from tests.systems import needs_links

pytestmark = pytest.mark.usefixtures("elsewhere")


posix = pytest.mark.skipif(os.name == "nt", reason="no file has such a name there, or is of such a kind")


def sample(*arguments: object, status: int = 0) -> None:
    assert main(["sample", "--model", TINY, *map(str, arguments)]) == status


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", -1], "n is -1; it must be at least 1"),
        (["--n", 10**23], "images 0-99999999999999999999999 are asked for; indices run from 0 to 2**63 - 1"),
        (["--start", -1], "images -1-14 are asked for; indices run from 0 to 2**63 - 1"),
        (["--n", 2, "--start", 2**63 - 1], "indices run from 0 to 2**63 - 1"),
        (["--n", 10**13], "10,000,000,000,000 images would fill 1,000,000,000 folders, and at most 100,000 are made"),
        (
            ["--n", 2**63, "--format", "tar", "--shard-size", 1],
            "would fill 9,223,372,036,854,775,808 files, and at most",
        ),
        (["--n", 10**13, "--seed", 1, "--shard", "7/9"], "111,111,111 folders, and at most 100,000 are made at once"),
        (["--n", 10**9, "--grid", "10000x10000"], "grid is 10000x10000 images of 5x4; a contact sheet has at most"),
        (["--seed", -1], "seed is -1; it must be between 0 and 2**64 - 1"),
        (["--seed", 2**64], "seed is 18446744073709551616; it must be between 0 and 2**64 - 1"),
        (["--temperature", "nan"], "nan is not in the range 0<=x<=100"),
        (["--temperature", "-0.1"], "-0.1 is not in the range 0<=x<=100"),
        (["--batch-size", 0], "0 is not in the range 1<=x<=1000000"),
        (["--threads", 2000], "2000 is not in the range 1<=x<=1024"),
        (["--out", ""], "an empty path"),
        (["--out", ".npy"], ".npy has no name before .npy; write, for example, images.npy"),
        (["--out", "a/.tar"], "a/.tar has no name before .tar; write, for example, images.tar"),
        (["--indices", "1,,2"], "'' is no index and no range of them"),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_refused_at_once(
    arguments: list[object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sample(*arguments, status=2)
    error = capsys.readouterr().err
    assert message in error
    assert not error.startswith("seed")  # of a run that will not be
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--n", 1, "--start", 2**63 - 1],
        ["--batch-size", 1_000_000, "--threads", 1024, "--workers", 1024],
        ["--temperature", 0],
        ["--shard-size", 10**30, "--format", "npy"],
        ["--shard-size", 1, "--format", "tar", "--workers", 1000],
        ["--grid", "100000x100000"],
        ["--n", 3, "--shard", "99999998/99999999", "--seed", 1],
    ],
    ids=str,
)
def test_odd_numbers_make_what_they_say(arguments: list[object]) -> None:
    sample("--n", 5, "--out", "out", *arguments)
    assert main(["verify", "out"]) == ("--shard" in arguments)  # the other shards are missing


def test_a_contact_sheet_has_no_room_for_images_that_are_not_made() -> None:
    sample("--n", 3, "--grid", "100000x100000", "--out", "out")
    with Image.open("out/grid.png") as sheet:
        assert sheet.size == (2 + 3 * 6, 2 + 1 * 7)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory")
def test_a_run_of_as_many_parts_as_may_be_begins_at_once() -> None:
    what = ["--n", MAX_PARTS, "--format", "npy", "--shard-size", 1, "--shard", "0/1", "--seed", 1, "--out", "out"]
    with subprocess.Popen([*VAE_GEN, "sample", "--model", TINY, *map(str, what)], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while not list(Path("out").glob("*.npy")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        memory = Path(f"/proc/{process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
        process.terminate()
    assert int(memory) < 400_000  # kB


def test_scattered_images_take_no_longer_than_others() -> None:
    indices = list(range(0, 60_000, 3))
    began = time.monotonic()
    sample("--indices", ",".join(map(str, indices)), "--seed", 1, "--out", "a.npy", "--quiet")
    assert time.monotonic() - began < 20
    sample("--indices", "59997", "--seed", 1, "--out", "b.npy", "--quiet")
    np.testing.assert_array_equal(np.load("a.npy")[-1:], np.load("b.npy"))


@pytest.mark.parametrize(
    "out",
    [
        *["a b/c", "ü/漢.npy", "x/../y", "./-", "~", "-x", "a.npy.npy", "ab[c].tar", "%s.zip"],
        *[pytest.param(name, marks=posix) for name in ("a b/c\nd", "a\x01b", "a*b?[c].tar", "C:")],
    ],
)
def test_odd_names_are_names(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    sample("--n", 3, f"--out={out}")
    assert Path(out).exists()
    assert main(["verify", "--", out]) == 0


@needs_links
@pytest.mark.parametrize("out", ["link", "link/a.npy", "file.npy"])
def test_links_are_followed(out: str) -> None:
    Path("folder").mkdir()
    Path("link").symlink_to("folder")
    Path("file.npy").symlink_to("folder/b.npy")
    sample("--n", 3, "--out", out, "--overwrite")
    assert main(["verify", out]) == 0
    assert Path("link").is_symlink()
    assert Path("file.npy").is_symlink()


@posix
@pytest.mark.parametrize("out", ["dangling", "pipe", "pipe.npy", "/dev/null", "/proc/x"])
def test_what_is_no_folder_and_no_file_is_kept(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("dangling").symlink_to("nowhere")
    os.mkfifo("pipe")
    os.mkfifo("pipe.npy")
    sample("--n", 3, "--out", out, "--overwrite", status=1)
    assert out in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["dangling", "pipe", "pipe.npy"]
    assert Path("pipe").is_fifo()
    assert Path("pipe.npy").is_fifo()


@pytest.mark.parametrize("command", [["sample", "--n", "3"], ["decode", "--z", "1,2,3"]], ids=lambda words: words[0])
def test_a_terminal_gets_no_bytes(command: list[str]) -> None:
    pty = pytest.importorskip("pty")
    ours, terminal = pty.openpty()
    words = [*VAE_GEN, *command, "--model", TINY, "--out", "-", "--format", "npy"]
    found = subprocess.run(words, stdout=terminal, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(terminal)
    os.close(ours)
    assert found.returncode == 2
    assert (
        found.stderr == "Error: --out - would fill this terminal with bytes; add > FILE or | PROGRAM, or name a file\n"
    )


@pytest.mark.parametrize("format", ["png", "npy"])
def test_shards_at_once_make_what_one_run_makes(format: str) -> None:
    what = ["sample", "--model", TINY, "--n", "400", "--seed", "3", "--format", format, "--threads", "1", "-q"]
    shards = [
        subprocess.Popen([*VAE_GEN, *what, "--out", "out", "--shard", f"{shard}/4"], stderr=subprocess.PIPE, text=True)
        for shard in range(4)
    ]
    for shard in shards:
        assert shard.communicate(timeout=60) == (None, "")
        assert shard.returncode == 0
    assert main(["verify", "out"]) == 0
    assert not Path("out/.vae-gen").exists()


@pytest.mark.parametrize("out", ["out", "a.npy"])
def test_two_that_go_on_with_one_run_are_told_apart(out: str) -> None:
    command = [*VAE_GEN, "sample", "--model", TINY, "--n", "5000", "--threads", "1", "--batch-size", "5", "-q"]
    runs = [
        subprocess.Popen([*command, "--seed", "3", "--out", out, "--resume"], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [run.communicate(timeout=60)[1] for run in runs]
    assert all(run.returncode == (1 if error else 0) for run, error in zip(runs, errors, strict=True))
    assert 0 in [run.returncode for run in runs]
    for error in filter(None, errors):
        assert error.startswith(f"Error: another process is at work on {out}")
        assert error.endswith("; wait for it, or choose another --out\n")
    assert main(["verify", out]) == 0
    assert not list(Path().rglob("*.partial"))


def test_files_that_share_what_stands_beside_them_are_made_by_one_process_at_a_time() -> None:
    what = [*VAE_GEN, "sample", "--model", TINY, "--threads", "1", "-q"]
    first = [*what, "--n", "2000000", "--batch-size", "50", "--seed", "3", "--out", "a.npy", "--latents"]
    with subprocess.Popen(first, stderr=subprocess.PIPE, text=True) as running:
        until(lambda: list(Path().glob(".a.latents.npy.*.partial")))
        second = subprocess.run([*what, "--n", "3", "--out", "a.tar"], capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert second.stderr.startswith("Error: another process is at work on a.latents.npy; wait for it")
        assert list(Path().glob(".a.latents.npy.*.partial"))
        running.kill()
    sample("--n", 3, "--out", "a.tar")
    assert not list(Path().glob(".a.latents.npy.*"))


def test_a_shard_at_work_is_not_overwritten() -> None:
    what = [*VAE_GEN, "sample", "--model", TINY, "--threads", "1", "-q", "--out", "out", "--format", "npy"]
    shard = [*what, "--n", "2000000", "--batch-size", "50", "--seed", "3", "--shard-size", "1000", "--shard", "0/2"]
    with subprocess.Popen(shard, stderr=subprocess.PIPE, text=True) as running:
        until(lambda: list(Path("out").glob("0*.npy")))
        other = [*what, "--n", "3", "--overwrite"]
        second = subprocess.run(other, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert second.stderr.startswith(
            f"Error: another process is at work on {Path('out/manifest.0000-of-0002.json')}; wait"
        )
        assert running.poll() is None
        running.kill()
    assert Path("out/000000.npy").exists()
    sample("--n", 3, "--out", "out", "--format", "npy", "--overwrite")
    assert np.load("out/000000.npy").shape[0] == 3


def test_bench_says_nothing_of_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "nowhere"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "there is no model 'nowhere'" in printed.err


@pytest.mark.parametrize("seeds", ["33", "34"])
@pytest.mark.parametrize("what", [("--format", "png"), ("--format", "npy", "--shard-size", "100")], ids=str)
def test_two_runs_into_one_folder_at_once_are_one_run_or_refused(seeds: str, what: tuple[str, ...]) -> None:
    command = [*VAE_GEN, "sample", "--model", TINY, "--n", "4000", "--threads", "1", "--batch-size", "10", *what, "-q"]
    runs = [
        subprocess.Popen([*command, "--seed", seed, "--out", "out"], stderr=subprocess.PIPE, text=True)
        for seed in seeds
    ]
    errors = [run.communicate(timeout=60)[1] for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 1]
    assert "Traceback" not in "".join(errors)
    assert main(["verify", "out"]) == 0
    winner = [run.returncode for run in runs].index(0)
    assert json.loads(Path("out/manifest.json").read_text())["seed"] == int(seeds[winner])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard", "0/2"], "--shard needs --seed"),
        (["--shard", "2/2", "--seed", 1], "shard is 2/2; n shards are numbered 0/n to n-1/n"),
        (["--shard", "0/0", "--seed", 1, "--format", "npy"], "shard is 0/0; n shards are numbered 0/n to n-1/n"),
        (["--shard", "1", "--seed", 1], "'1' should look like 0/8"),
        (["--shard", "0/2", "--seed", 1, "--overwrite"], "--overwrite with --shard would remove"),
        (["--shard", "0/2", "--seed", 1, "--out", "x.npy"], "x.npy names one file, and parts of a run need a folder"),
        (["--shard-size", 5], "--shard-size is for files that hold many images"),
        (["--shard-size", 0, "--format", "tar"], "shard-size is 0; it must be at least 1"),
        (["--indices", "1", "--n", 2], "--indices says which images; leave out --n and --start"),
        (["--indices", "x"], "'x' is no index"),
        (["--out", "x.tar", "--format", "npy"], "x.tar names a file of the format tar, and --format is npy"),
        (["--out", "x.gif"], "x.gif names a picture"),
        (["--out", "x.tar.gz"], "x.tar.gz names a compressed file, and none is written"),
        (["--out", "-"], "--out - needs --format npy or tar, which can be read from a pipe, or for one image png"),
        (["--out", "-", "--format", "zip"], "--out - needs --format npy or tar"),
        (["--out", "-", "--format", "tar", "--json"], "--json prints on stdout"),
        (["--out", "-", "--format", "tar", "--latents"], "--latents writes a file beside the images"),
        (["--out", "-", "--format", "npy", "--grid", "2x2"], "--grid writes a file beside the images"),
        (["--out", "-", "--format", "npy", "--dask", "x"], "--dask has workers with a stdout of their own"),
        (["--resume", "--overwrite"], "--resume keeps what is there, and --overwrite removes it; give one of them"),
        (["--dask", "x", "--workers", 2], "--dask has the workers that the cluster has; leave out --workers"),
        (["--grid", "3"], "'3' should look like 10x10"),
        (["--grid", "0x3"], "grid is 0x3"),
        (["--threads", 0], "0 is not in the range"),
    ],
    ids=str,
)
def test_options_that_contradict_are_refused(
    arguments: list[object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sample(*arguments, status=2)
    assert message in capsys.readouterr().err
    assert tree(".") == {}
