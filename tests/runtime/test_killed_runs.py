"""What is left of a run that is killed or interrupted, and that --resume finishes it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from vae_gen.cli import main

from tests.disks import CAN_MOUNT, disk_in_memory
from tests.runs import TINY, VAE_GEN, sample, tree
from tests.runtime.slow_runs import RUNS, published
from tests.systems import needs_signals

pytestmark = pytest.mark.usefixtures("elsewhere")

KILLS = 20


@pytest.fixture
def work_in_memory(elsewhere: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where it can be: 10,000 small files, thirty times, take minutes on a disk."""
    if not CAN_MOUNT:
        yield
        return
    with disk_in_memory("memory", "500m"), monkeypatch.context() as patch:
        patch.chdir("memory")
        yield


@pytest.mark.usefixtures("work_in_memory")
@pytest.mark.parametrize("format", RUNS)
def test_a_run_that_is_killed_again_and_again_is_finished_as_if_nothing_had_been(format: str) -> None:
    command = [*VAE_GEN, "sample", "--model", TINY, *map(str, RUNS[format]), "--quiet", "--resume", "--out"]
    began = time.monotonic()
    subprocess.run([*command, "whole"], check=True, timeout=120)
    duration = time.monotonic() - began
    whole = published("whole")
    dice = random.Random(format)
    kills, midway = 0, 0
    while kills < KILLS:
        fresh = not Path("out").exists()
        began = time.monotonic()
        process = subprocess.Popen([*command, "out"])
        try:
            status = process.wait(timeout=dice.uniform(0.3, 1) * duration)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
            kills += 1
            left = published("out")
            midway += 0 < len(left) < len(whole)
            assert left == {name: whole[name] for name in left}  # what is there is whole
        if status == 0:
            if fresh:  # faster than what the moments are drawn from: the first run may have had to warm the caches
                duration = time.monotonic() - began
            assert tree("out") == tree("whole")
            shutil.rmtree("out")
    subprocess.run([*command, "out"], check=True, timeout=120)
    assert tree("out") == tree("whole")
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
        (("--n", 4), "/a.npy"),
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


def test_a_lock_beside_a_whole_folder_goes_as_the_run_is_resumed() -> None:
    run = ("--n", 4, "--seed", 3, "--out", "out")
    sample(*run)
    Path(".out.lock.0-0.partial").touch()  # as on Windows after a kill at the very end
    sample(*run, "--resume")
    assert [path.name for path in Path().iterdir()] == ["out"]


@pytest.mark.parametrize("options", [(), ("--latents", "--grid", "2x2")], ids=str)
def test_a_run_that_dies_as_it_replaces_a_file_is_finished(options: tuple[str, ...]) -> None:
    command = ["sample", "--model", TINY, "--n", "4", "--quiet", *options]
    assert main([*command, "--seed", "3", "--out", "whole/a.npy"]) == 0
    moments = 0
    while True:
        moments += 1
        out = f"died{moments}/a.npy"
        assert main([*command, "--seed", "1", "--out", out]) == 0
        replace = [*command, "--seed", "3", "--out", out, "--overwrite"]
        found = subprocess.run([sys.executable, "-c", DIES, str(moments), *replace], check=False, timeout=60)
        assert main([*command, "--seed", "3", "--out", out, "--resume"]) == 0
        assert tree(f"died{moments}") == tree("whole")
        if found.returncode == 0:
            break
        assert found.returncode == 9
    assert moments >= 3


@needs_signals
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


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
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


@needs_signals
def test_a_check_by_processes_stops_within_a_part() -> None:
    sample("--n", 400_000, "--format", "tar", "--shard-size", 200_000, "--no-metadata", "--out", "out")
    with subprocess.Popen([*VAE_GEN, "verify", "out", "--workers", "2"], stderr=subprocess.PIPE, text=True) as process:
        time.sleep(3)  # a part takes much longer
        assert process.poll() is None
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - begin < 5
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_what_killed_runs_have_begun_beside_one_file_goes_with_the_next() -> None:
    begun = [Path(f".{name}.77-1.partial") for name in ("a.npy", "a.latents.npy", "a.grid.png", "b.npy")]
    for path in begun:
        path.write_text("half")
    sample("--n", 2, "--out", "a.npy", "--overwrite")
    assert [path.name for path in begun if path.exists()] == [".b.npy.77-1.partial"]
