"""vae-gen sample --dask: a run of a cluster whose workers are killed, fail, or are not there."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import distributed
import pytest
from vae_gen.cli import main
from vae_gen.errors import BundleError
from vae_gen.generator import cluster as vae_gen_cluster
from vae_gen.generator.generate import make_part
from vae_gen.generator.indices import Indices
from vae_gen.generator.jobs import Crew, make_run
from vae_gen.generator.runs import Run
from vae_gen.model import load

from tests.conftest import MODELS
from tests.disks import disk_in_memory, remount
from tests.runs import VAE_GEN, hashes, until

# A small batch makes the run slow enough that something can happen in its midst.
SLOW = ["--model", "tiny", "--n", "30000", "--seed", "3", "--batch-size", "8"]
WHAT = ["sample", *SLOW, "--format", "npy", "--shard-size", "1000", "--latents", "--grid", "2x2"]
PARTS = 30


@pytest.fixture(scope="module")
def local_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[distributed.LocalCluster]:
    """Three processes of one thread each, which work in another directory than the tests."""
    folder = tmp_path_factory.mktemp("cluster")
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(folder)
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an undisturbed run on this machine writes."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "tiny").symlink_to(MODELS / "tiny")
    subprocess.run([*VAE_GEN, *WHAT, "--out", "out", "--threads", "1", "-q"], cwd=folder, check=True, timeout=60)
    return hashes(folder / "out")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny").symlink_to(MODELS / "tiny")


def start(cluster: distributed.LocalCluster) -> subprocess.Popen[str]:
    """A run of the cluster of which some parts are complete."""
    command = [*VAE_GEN, *WHAT, "--out", "out", "--dask", cluster.scheduler_address]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until(lambda: len(list(Path("out").glob("0*[0-9].npy"))) >= 3)
    return process


def kill_a_worker() -> None:
    """Kill one that is in the midst of a part."""
    while True:
        for partial in Path("out").glob(".0*.partial"):
            pid = int(re.search(r"\.(\d+)-\d+\.partial$", partial.name)[1])
            os.kill(pid, signal.SIGSTOP)
            if partial.exists():
                os.kill(pid, signal.SIGKILL)
                return
            os.kill(pid, signal.SIGCONT)


def test_a_worker_that_is_killed_changes_nothing(
    local_cluster: distributed.LocalCluster, whole: dict[str, str]
) -> None:
    with start(local_cluster) as process:
        kill_a_worker()
        assert len(list(Path("out").glob("0*[0-9].npy"))) < PARTS
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "30000 images in out\n")
    assert hashes("out") == whole
    assert main(["verify", "out", "-q"]) == 0


def test_a_part_that_kills_its_workers_is_missing(
    local_cluster: distributed.LocalCluster, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_cluster.scheduler, "allowed_failures", 0)
    with start(local_cluster) as process:
        kill_a_worker()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("Error: a worker has not made its part: KilledWorker: Attempted to run task 'make_part-")
    assert re.search(r"\n[\d,]+ of 30,000 images are not made; the same command with --resume makes them\n$", errors)
    until(lambda: not local_cluster.scheduler.tasks)
    assert main([*WHAT, "--out", "out", "-q", "--dask", local_cluster.scheduler_address, "--resume"]) == 0
    assert hashes("out") == whole


def test_a_run_that_is_stopped_by_hand_leaves_whole_parts(
    local_cluster: distributed.LocalCluster, whole: dict[str, str]
) -> None:
    with start(local_cluster) as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "Stopped: what is complete stays; --resume makes the rest\n")
    until(lambda: not local_cluster.scheduler.tasks)
    until(lambda: not list(Path("out").glob(".*.partial")))  # what the workers were at is completed
    left = {name: content for name, content in hashes("out").items() if not name.startswith(".")}
    assert left == {name: whole[name] for name in left}
    assert 6 <= len(left) < PARTS
    time.sleep(0.3)
    assert len(hashes("out")) - len(list(Path("out/.vae-gen").iterdir())) == len(left)  # nobody goes on
    assert main([*WHAT, "--out", "out", "-q", "--threads", "1", "--resume"]) == 0
    assert hashes("out") == whole


def test_a_full_disk_of_the_workers_is_named(
    local_cluster: distributed.LocalCluster, whole: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with disk_in_memory("out", "500k"):
        command = [*WHAT, "--out", "out", "-q", "--dask", local_cluster.scheduler_address]
        try:
            assert main(command) == 1
            message = capfd.readouterr().err
            assert re.search(rf"^Error: cannot write {tmp_path}/out/[\w./-]+: No space left on device$", message, re.M)
            assert re.search(
                r"^[12]\d,000 of 30,000 images are not made; the same command with --resume", message, re.M
            )
            remount("out", "size=20m")
            until(lambda: not local_cluster.scheduler.tasks and not list(Path("out").glob(".*.partial")))
            assert main([*command, "--resume"]) == 0
            assert hashes("out") == whole
        finally:
            until(lambda: not list(Path("out").glob(".*.partial")))


def test_a_model_that_the_workers_do_not_have_is_named(local_cluster: distributed.LocalCluster) -> None:
    shutil.copytree(MODELS / "tiny", "mine")
    model = load("mine", threads=1)
    identity = (model.name, model.decoder_sha256, model.image_shape, model.latent_dim, model.reading)
    run = Run("mine", *identity, seed=3, indices=Indices.of(0, 30), part_size=10)
    shutil.move("mine", "away")
    with vae_gen_cluster.cluster(local_cluster.scheduler_address) as executor:
        with pytest.raises(BundleError, match=r"there is no model '/.*/mine'(.*\n)+30 of 30 images are not made"):
            make_run(run, "out", Crew(executor=executor))
        shutil.move("away", "mine")
        make_run(run, "out", Crew(executor=executor), resume=True)
    make_run(run, "local")
    assert hashes("out") == hashes("local")


def test_workers_run_the_functions_of_this_package(local_cluster: distributed.LocalCluster) -> None:
    with vae_gen_cluster.cluster(local_cluster.scheduler_address) as executor:
        assert executor.submit(inspect.getsourcefile, make_part).result(30) == inspect.getsourcefile(make_part)
        assert not executor.submit(os.path.samefile, ".", str(Path.cwd())).result(30)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "tls://127.0.0.1:1", "somewhere"])
def test_an_address_without_a_scheduler_is_named(address: str) -> None:
    assert vae_gen_cluster.TIMEOUT <= 5
    # In a process of its own: a client that could not connect ends its thread some time later.
    short = (
        "import sys; from vae_gen import cli; from vae_gen.generator import cluster; cluster.TIMEOUT = 0.5; "
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", short, *WHAT, "--out", "out", "--dask", address]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert found.returncode == 1
    assert re.fullmatch(rf"Error: there is no Dask scheduler at {address}: .+\n", found.stderr)
    assert ("after 0.5 s" in found.stderr) == address.startswith("tcp")
    assert not Path("out").exists()


def test_a_scheduler_that_ends_is_named() -> None:
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
    with subprocess.Popen([*command, "--scheduler-file", "file"], stderr=subprocess.DEVNULL) as scheduler:
        try:
            until(Path("file").exists)
            address = json.loads(Path("file").read_text())["address"]
            command = [*VAE_GEN, *WHAT, "--out", "out", "--dask", address]
            run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            until(Path("out/grid.png").exists)
            time.sleep(0.2)  # it waits for workers
        finally:
            scheduler.kill()
        _, errors = run.communicate(timeout=30)
    assert run.returncode == 1
    assert errors == (
        "Error: a part was cancelled before it was complete; the cluster's scheduler has ended\n"
        "30,000 of 30,000 images are not made; the same command with --resume makes them\n"
    )


def test_without_the_extra_it_says_what_to_install() -> None:
    block = "import sys; sys.modules['distributed'] = None; from vae_gen.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", block, *WHAT, "--out", "out", "--dask", "tcp://127.0.0.1:1"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert found.returncode == 1
    assert found.stderr == (
        "Error: --dask needs Dask, and 'distributed' is not installed here; "
        'install them with: pip install "vae-gen[dask]"\n'
    )
    assert not Path("out").exists()
