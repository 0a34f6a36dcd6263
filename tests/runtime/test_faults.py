"""What is left of a run that is killed, or whose disk is full, or that finds something in its way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from vae_gen import generate
from vae_gen.cli import main
from vae_gen.errors import BundleError

from tests.conftest import MODELS

TINY = str(MODELS / "tiny")
VAE_GEN = [sys.executable, "-m", "vae_gen"]
KILLS = 20


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sample(*arguments: object, status: int = 0, model: str = TINY) -> None:
    assert main(["sample", "--model", model, "--quiet", *map(str, arguments)]) == status


def tree(folder: str | Path) -> dict[str, bytes]:
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def published(folder: str) -> dict[str, bytes]:
    """The files under their final names: not those of the run's state, nor in what is hidden as unfinished."""
    return {
        name: content for name, content in tree(folder).items() if not any(part[0] == "." for part in Path(name).parts)
    }


# A small batch makes the runs slow enough to be killed in their midst.
SLOW = ("--seed", 3, "--batch-size", 2, "--threads", 1)
RUNS = {
    "png": ("--indices", "0-1999,10000-11999,20000-21999,30000-31999,40000-42000", *SLOW),
    **{
        kind: ("--n", 3_000, *SLOW, "--format", kind, "--shard-size", 250, "--latents")
        for kind in ("npy", "npz", "tar", "zip", "idx")
    },
}


@pytest.fixture
def disk_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As the working directory: 10,000 small files, twenty times, take minutes on a disk."""
    folder = tmp_path / "memory"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", folder], check=True)
    monkeypatch.chdir(folder)
    yield
    monkeypatch.undo()
    subprocess.run(["umount", folder], check=True)


@pytest.mark.usefixtures("disk_in_memory")
@pytest.mark.parametrize("format", RUNS)
def test_a_run_that_is_killed_again_and_again_is_finished_as_if_nothing_had_been(format: str) -> None:
    what = [str(word) for word in ("sample", "--model", TINY, *RUNS[format])]
    began = time.monotonic()
    subprocess.run([*VAE_GEN, *what, "--out", "whole", "-q"], check=True, timeout=120)
    duration = time.monotonic() - began
    whole = published("whole")
    dice = random.Random(format)
    kills, midway, run = 0, 0, 0
    while kills < KILLS:
        out = f"killed{run}"
        process = subprocess.Popen([*VAE_GEN, *what, "--out", out, "--resume", "-q"])
        try:
            status = process.wait(timeout=dice.uniform(0.3, 1) * duration)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
            kills += 1
            left = published(out)
            midway += 0 < len(left) < len(whole)
            assert left == {name: whole[name] for name in left}  # what is there is whole
        if status == 0:
            assert tree(out) == tree("whole")
            run += 1
    process = subprocess.run([*VAE_GEN, *what, "--out", out, "--resume", "-q"], check=True, timeout=120)
    assert tree(out) == tree("whole")
    assert midway >= 3


DIES = """
import os, sys
from vae_gen.cli import main

left = int(sys.argv[1])

def dying(rename):
    def renamed(*arguments, **options):
        global left
        rename(*arguments, **options)
        left -= 1
        if left == 0:
            os._exit(9)
    return renamed

os.rename, os.replace = dying(os.rename), dying(os.replace)
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("what", "file"),
    [
        (("--n", 4), ""),
        (("--n", 4, "--latents", "--grid", "2x2"), ""),
        (("--n", 4, "--shard", "0/1"), ""),
        (("--n", 4, "--format", "tar", "--shard-size", 2), ""),
        (("--n", 4, "--format", "npy"), ""),
        (("--n", 4, "--latents", "--grid", "2x2"), "/a.zip"),
    ],
    ids=str,
)
def test_a_run_that_dies_as_something_gets_its_name_is_finished(what: tuple[object, ...], file: str) -> None:
    command = ["sample", "--model", TINY, "--seed", "3", "--quiet", *map(str, what), "--resume", "--out"]
    assert main([*command, f"whole{file}"]) == 0
    moments = 0
    while True:
        moments += 1
        out = f"died{moments}"
        found = subprocess.run(
            [sys.executable, "-c", DIES, str(moments), *command, out + file], check=False, timeout=60
        )
        assert main([*command, out + file]) == 0
        assert tree(out) == tree("whole")
        assert [path.name for path in Path().glob(".*")] == []
        if found.returncode == 0:
            break
        assert found.returncode == 9
    assert moments >= 3


def test_what_was_complete_is_not_made_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    what = ("--n", 50, "--seed", 3, "--format", "tar", "--shard-size", 10, "--threads", 1)
    sample(*what, "--out", "whole")
    made: list[int] = []
    write_part = generate.write_part

    def fail_at_the_fourth(store, run, part, *arguments):  # type: ignore[no-untyped-def]
        if part.number == 3 and len(made) == 3:
            raise BundleError("the decoder broke")
        made.append(part.number)
        return write_part(store, run, part, *arguments)

    monkeypatch.setattr(generate, "write_part", fail_at_the_fourth)
    sample(*what, "--out", "out", status=1)
    message = "Error: the decoder broke\n20 of 50 images are not made; the same command with --resume makes them\n"
    assert capsys.readouterr().err == message
    assert sorted(path.name for path in Path("out").glob("*.tar")) == [f"00000{number}.tar" for number in range(3)]
    assert not Path("out/manifest.json").exists()
    assert main(["verify", "out"]) == 1
    assert "unfinished" in capsys.readouterr().err
    made.append(-1)
    sample(*what, "--out", "out", "--resume")
    assert made == [0, 1, 2, -1, 3, 4]
    assert tree("out") == tree("whole")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            ("--seed", 3),
            ("--seed", 3),
            "holds this run, complete; --resume makes only what is gone, --overwrite repeats it",
        ),
        (("--seed", 3), ("--seed", 4), "already holds another run: seed is 3 there and 4 here; choose another --out"),
        (("--seed", 3), ("--seed", 4, "--resume"), "another run: seed is 3 there and 4 here"),
        (("--seed", 3), ("--seed", 3, "--n", 6), "indices is 0-4 there and 0-5 here, images is 5 there and 6 here"),
        (("--seed", 3), ("--seed", 3, "--temperature", 0.5), "temperature is 1.0 there and 0.5 here"),
        (("--seed", 3), ("--seed", 3, "--no-metadata", "--resume"), "metadata is True there and False here"),
        (("--seed", 3), ("--seed", 3, "--format", "npy"), "format is png there and npy here"),
        (("--seed", 3), ("--seed", 3, "--shard", "0/2"), "shards is 1 there and 2 here"),
    ],
    ids=str,
)
def test_a_folder_with_a_run_is_kept(
    before: tuple[object, ...], after: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sample("--n", 5, *before, "--out", "out")
    was = tree("out")
    sample("--n", 5, *after, "--out", "out", status=1)
    assert message in capsys.readouterr().err
    assert tree("out") == was


def test_another_version_does_not_go_on_with_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    sample("--n", 5, "--seed", 3, "--out", "out")
    manifest = json.loads(Path("out/manifest.json").read_text())
    manifest["versions"]["onnxruntime"] = "1.2.3"
    Path("out/manifest.json").write_text(json.dumps(manifest))
    sample("--n", 5, "--seed", 3, "--out", "out", "--resume", status=1)
    assert "another run: onnxruntime is 1.2.3 there and " in capsys.readouterr().err


def test_a_complete_run_is_resumed_by_doing_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for out in ("out", "a.npy"):
        sample("--n", 5, "--seed", 3, "--out", out)
        was = {name: Path(name).stat().st_mtime_ns for name in tree(".")}
        monkeypatch.setattr(generate, "make_part", None)
        sample("--n", 5, "--seed", 3, "--out", out, "--resume")
        sample("--n", 5, "--out", out, "--resume")  # without --seed it is the seed of what is there
        assert {name: Path(name).stat().st_mtime_ns for name in tree(".")} == was


MINE = ("notes.txt", "2024/000.png", "20240/000.png", "12.png", "1700000000.png", "my.tar", "000003.tar", "latents.npy")


def write_mine(*names: str) -> None:
    for name in names:
        Path("out", name).parent.mkdir(parents=True, exist_ok=True)
        Path("out", name).write_text("mine")


def test_a_folder_with_something_else_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    write_mine("notes.txt")
    sample("--n", 3, "--seed", 4, "--out", "out", status=1)
    assert "out already holds something; choose another --out, or give --overwrite" in capsys.readouterr().err
    assert tree("out") == {"notes.txt": b"mine"}


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize(
    "what", [("--n", 12, "--grid", "2x2"), ("--n", 10_001), ("--n", 9, "--format", "tar")], ids=str
)
def test_overwriting_removes_what_the_run_there_lists_and_nothing_else(
    what: tuple[object, ...], complete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        if not complete:
            patch.setattr(generate.Run, "command", property(lambda run: run.nothing))  # fails at the very end
            with pytest.raises(AttributeError):
                sample(*what, "--seed", 3, "--out", "out")
        else:
            sample(*what, "--seed", 3, "--out", "out")
    write_mine(*MINE)
    sample("--n", 3, "--seed", 4, "--out", "out", "--overwrite")
    assert set(tree("out")) == {"000000000.png", "000000001.png", "000000002.png", "manifest.json", *MINE}
    for name in MINE:
        assert Path("out", name).read_text() == "mine"


@pytest.mark.parametrize("content", ["{}", "[", '{"name": "my web page", "icons": []}'])
def test_a_manifest_of_something_else_is_not_overwritten(content: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_mine("000000001.png")
    Path("out/manifest.json").write_text(content)
    was = tree("out")
    for command in (["sample", "--n", "3", "--seed", "4"], ["decode", "--z", "1,2,3"]):
        assert main([*command, "--model", TINY, "--out", "out", "--overwrite"]) == 1
        message = capsys.readouterr().err
        assert "out/manifest.json is no manifest of a run, or a damaged one: " in message
        assert message.endswith("; choose another --out, or remove it yourself\n")
    assert tree("out") == was


def test_a_run_that_was_killed_before_it_said_what_it_makes_is_none() -> None:
    Path("out/.vae-gen").mkdir(parents=True)
    sample("--n", 3, "--seed", 3, "--out", "out")
    assert main(["verify", "out", "-q"]) == 0


def test_a_damaged_record_of_an_unfinished_run_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    what = ("--n", 12, "--seed", 3, "--format", "npy", "--shard-size", 4, "--out", "out")
    with monkeypatch.context() as patch:
        patch.setattr(generate.Run, "command", property(lambda run: run.nothing))
        with pytest.raises(AttributeError):
            sample(*what)
    Path("out/.vae-gen/000001.json").write_text('{"images": 4}')
    sample(*what, "--resume")
    assert main(["verify", "out", "-q"]) == 0


def test_files_beside_a_file_are_kept_too(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.latents.npy").write_text("mine")
    sample("--n", 3, "--seed", 4, "--out", "a.npy", "--latents", status=1)
    assert "already holds something" in capsys.readouterr().err
    assert tree(".") == {"a.latents.npy": b"mine"}
    sample("--n", 3, "--seed", 4, "--out", "a.npy", "--latents", "--overwrite")
    assert np.load("a.latents.npy").shape == (3, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard", "0/2"], "--shard needs --seed"),
        (["--shard", "2/2", "--seed", 1], "shard is 2/2; n shards are numbered 0/n to n-1/n"),
        (["--shard", "1", "--seed", 1], "'1' should look like 0/8"),
        (["--shard", "0/2", "--seed", 1, "--overwrite"], "--overwrite with --shard would remove"),
        (["--shard", "0/2", "--seed", 1, "--out", "x.npy"], "x.npy names one file, and parts of a run need a folder"),
        (["--shard-size", 5], "--shard-size is for files that hold many images"),
        (["--shard-size", 0, "--format", "tar"], "shard-size is 0; it must be at least 1"),
        (["--indices", "1", "--n", 2], "--indices says which images; leave out --n and --start"),
        (["--indices", "x"], "'x' is no index"),
        (["--out", "x.tar", "--format", "npy"], "x.tar names a file of the format tar, and --format is npy"),
        (["--out", "x.gif"], "x.gif names a picture"),
        (["--out", "-"], "--out - needs --format npy or tar"),
        (["--out", "-", "--format", "zip"], "--out - needs --format npy or tar"),
        (["--out", "-", "--format", "tar", "--json"], "--json prints on stdout"),
        (["--out", "-", "--format", "npy", "--dask", "x"], "--dask has workers with a stdout of their own"),
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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("format", RUNS)
def test_a_full_disk_is_named_and_what_is_complete_stays(
    format: str, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = () if format == "png" else ("--shard-size", 100)
    what = ("--n", 30_000, "--seed", 3, "--format", format, *parts)
    out = small_disk / "out"
    sample(*what, "--out", out, status=1)
    message = capsys.readouterr().err
    assert "No space left on device" in message
    assert str(out) in message
    assert "of 30,000 images are not made; the same command with --resume makes them" in message
    assert not list(small_disk.rglob("*.partial"))
    left = published(str(out))
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    sample(*what, "--out", out, "--resume")
    sample(*what, "--out", "whole")
    assert tree(out) == tree("whole")
    assert left == {name: content for name, content in tree(out).items() if name in left}
    assert format == "png" or len(left) > 0


def test_a_read_only_folder_is_named(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for out in ("", "new", "a.npy"):
        sample("--n", 3, "--out", small_disk / out, status=1)
        message = capsys.readouterr().err
        assert "Read-only file system" in message
        assert str(small_disk) in message


@pytest.mark.parametrize(
    ("in_the_way", "out"),
    [("out", "out"), ("out", "out/below"), ("folder/a.npy/x", "folder/a.npy")],
)
def test_something_in_the_way_is_named(in_the_way: str, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(in_the_way).parent.mkdir(parents=True, exist_ok=True)
    Path(in_the_way).write_text("mine")
    sample("--n", 3, "--out", out, status=1)
    message = capsys.readouterr().err
    assert message.startswith("Error: ")
    assert out.partition("/")[0] in message
    assert tree(".") == {in_the_way: b"mine"}


def test_a_closed_pipe_is_named() -> None:
    command = (
        f"{' '.join(VAE_GEN)} sample --model {TINY} --n 1000000 --out - --format npy --seed 1 | head -c 100 >/dev/null"
    )
    found = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert found.returncode == 1
    assert found.stderr.startswith("Error: cannot write to standard output: Broken pipe\n")
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_whole_parts_and_no_process(workers: int, number: int, status: int) -> None:
    what = ["--model", TINY, "--n", "100000000", "--seed", "1", "--format", "npy", "--shard-size", "20000"]
    command = [*VAE_GEN, "sample", *what, "--out", "out", "--workers", str(workers), "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while len(list(Path("out").glob("0*.npy"))) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == status
    assert "Traceback" not in errors
    if number == signal.SIGINT:
        assert errors.endswith("Stopped: what is complete stays; --resume makes the rest\n")
    for path in Path("out").glob("0*.npy"):
        assert np.load(path).shape == (20_000, 3, 5, 4)
    assert not [path for path in Path("out").rglob("*") if path.name.endswith(".partial")]
    check_no_process_is_left(process.pid)


def test_workers_do_not_outlive_a_parent_that_is_killed() -> None:
    what = ["--model", TINY, "--n", "100000000", "--seed", "1", "--format", "npy", "--shard-size", "20000"]
    command = [*VAE_GEN, "sample", *what, "--out", "out", "--workers", "2", "--threads", "1"]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while len(list(Path("out").glob("0*.npy"))) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
        process.wait()
    check_no_process_is_left(process.pid)


def check_no_process_is_left(session: int) -> None:
    deadline = time.monotonic() + 10
    while not no_process_left(session):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def no_process_left(session: int) -> bool:
    """Whether no process of this session is left but those that have ended."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state != "Z":
            return False
    return True
