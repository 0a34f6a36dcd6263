"""Training in several processes, as torchrun starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from vae_gen.cli import main
from vae_gen.data.datasets import load_data_set
from vae_gen.errors import UsageError
from vae_gen_train import distributed, trainer
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.config import TrainConfig
from vae_gen_train.distributed import World
from vae_gen_train.metrics_log import read_metrics

from tests.systems import needs_signals

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TWO = [*TORCHRUN, "-m", "vae_gen_train"]
MINUTES = 180  # seconds that anything here may take on a busy machine
SMALL = ["--preset", "notebook", "--latent-dim", "3", "--batch-size", "16"]


@contextmanager
def two_processes(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """torchrun with two workers; whatever happens, none of them is left."""
    with subprocess.Popen([*TWO, *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def finish(*arguments: str) -> str:
    """What two processes that succeed write to stderr."""
    with two_processes(*arguments) as process:
        _, errors = process.communicate(timeout=MINUTES)
    assert process.returncode == 0, errors
    return errors


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The processes that torchrun has started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in children.read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_two_processes_train_as_one_does_and_survive_the_loss_of_one(small_data: Path, tmp_path: Path) -> None:
    options = ["--data", str(small_data), *SMALL, "--objective", "gaussian", "--free-bits", "0.2", "--clip-norm", "5"]
    run = tmp_path / "run"
    with two_processes(*options, "--steps", "100000", "--out", str(run)) as process:
        deadline = time.monotonic() + MINUTES
        while not (run / "reconstructions").exists():  # it has begun
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        found = workers(process)
        assert len(found) == 2
        os.kill(found[1], signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Error: process 0 of 2: another process of this run is gone" in errors
    assert "start all processes again, with --resume" in errors
    for worker in found:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    assert Checkpoint.open(run).step == 0

    told = finish("--data", str(small_data), "--resume", str(run), "--steps", "6")
    assert told.count("2 processes on cpu, 1 thread each") == told.count("the run is in") == 1
    saved = Checkpoint.open(run)
    assert (saved.step, saved.config.processes, saved.config.threads) == (6, 2, 1)

    alone = tmp_path / "alone"
    assert main(["train", "--quiet", *options, "--threads", "1", "--steps", "6", "--out", str(alone)]) == 0
    tensors, expected = (load_file(folder / "checkpoint.safetensors") for folder in (run, alone))
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():  # of weights that moved by up to 6 x 5e-4
        close = torch.isclose(tensors[name], tensor, rtol=1e-3, atol=2e-5)
        assert close.float().mean() > 0.999, name
    for record, other in zip(read_metrics(run), read_metrics(alone), strict=True):
        assert (record["step"], record["split"]) == (other["step"], other["split"])
        for name in ("reconstruction", "kl", "total", "sse"):
            assert record[name] == pytest.approx(other[name], rel=1e-3)
    assert sorted(path.name for path in run.rglob("*")) == sorted(path.name for path in alone.rglob("*"))


@needs_signals
def test_a_signal_stops_all_processes_after_the_same_step(small_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with two_processes("--data", str(small_data), *SMALL, "--steps", "100000", "--out", str(run)) as process:
        deadline = time.monotonic() + MINUTES
        while not (run / "reconstructions/step-000200.png").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.terminate()
        _, errors = process.communicate(timeout=60)
    step = Checkpoint.open(run).step
    assert step >= 200
    assert errors.count("stopping after this step\n") == 1
    assert f"Stopped: step {step} of 100000 is saved; go on with --resume {run}" in errors


@pytest.mark.skipif(os.name == "nt", reason="PyTorch is built without libuv there, which torchrun needs")
@pytest.mark.parametrize("scene", ["reading", "report", "anew", "sharing", "stopped"])
def test_two_processes_wait_for_each_other_and_share(scene: str, small_data: Path, tmp_path: Path) -> None:
    if scene == "anew":
        made = ["--out", str(tmp_path / "run"), "--steps", "2", "--prior-steps", "2", "--batch-size", "16", "--quiet"]
        assert main(["train", "--data", str(small_data), "--latent-dim", "2", "--threads", "1", *made]) == 0
    script = Path(__file__).parent / "scenes_of_two.py"
    command = [*TORCHRUN, str(script), scene, str(small_data), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MINUTES, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.glob("ended-*")} == {"ended-0", "ended-1"}


def environment(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))


def test_torchruns_variables_say_where_a_process_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    assert World.from_environment() == World(0, 1, 0, 1)
    environment(monkeypatch, RANK=5, WORLD_SIZE=8, LOCAL_RANK=1, LOCAL_WORLD_SIZE=4)
    assert World.from_environment() == World(5, 8, 1, 4)
    assert not World.from_environment().writes
    assert [World(rank, 8, rank % 4, 4).turn for rank in range(8)] == [0, 2, 2, 2, 1, 2, 2, 2]
    environment(monkeypatch, LOCAL_RANK="one")
    with pytest.raises(UsageError, match="RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE must all be set to numbers"):
        World.from_environment()


def test_a_batch_that_cannot_be_shared_is_refused(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment(monkeypatch, RANK=0, WORLD_SIZE=3, LOCAL_RANK=0, LOCAL_WORLD_SIZE=3)
    assert main(["train", "--data", str(small_data), "--batch-size", "64", "--out", str(tmp_path / "run")]) == 2
    assert "batch-size is 64, which 3 processes with accumulate 1 cannot share evenly" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_threads_of_all_processes_never_exceed_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "usable_cpus", lambda: 8)
    assert World().threads(None) == 8
    assert World().threads(12) == 12  # alone, whoever asks for more gets it
    assert World(0, 3, 0, 3).threads(None) == 2
    assert World(0, 3, 0, 3).threads(4) == 2
    assert World(0, 3, 0, 3).threads(1) == 1
    assert World(0, 6, 0, 3).threads(None) == 2  # two machines
    assert World(0, 16, 0, 16).threads(None) == 1


def test_every_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match=r"there are 2 processes on this machine and 1 GPUs; .*--device cpu"):
        World(1, 2, 1, 2).select_device("cuda")
    assert World(1, 2, 1, 2).select_device("cpu") == torch.device("cpu")


def test_parts_of_a_batch_and_its_noise_make_up_the_whole(small_data: Path) -> None:
    from vae_gen_train.step import Stepper

    data = load_data_set(small_data)
    config = TrainConfig.from_preset("notebook", batch_size=12, latent_dim=3, accumulate=3, processes=2)
    whole = torch.randperm(100)[:12].numpy()
    found = []
    for rank in (0, 1):
        stepper = Stepper.__new__(Stepper)
        stepper.config, stepper.device, stepper.world = config, torch.device("cpu"), World(rank, 2, rank, 2)
        found.append(list(stepper._shares(5, whole)))
    assert len(data.train) > 100
    in_order = [part for pair in zip(*found, strict=True) for part in pair]
    assert [index for rows, _ in in_order for index in rows] == whole.tolist()
    noise = torch.cat([part for _, part in in_order if part is not None])
    assert noise.shape == (12, 3)
    assert len(noise.unique()) == 36
    dropout = {}
    for rank in (0, 1):
        stepper = Stepper.__new__(Stepper)
        stepper.config, stepper.device, stepper.world = config, torch.device("cpu"), World(rank, 2, rank, 2)
        dropout[rank] = [torch.rand(1).item() for _ in stepper._shares(5, whole)]
    assert len({*dropout[0], *dropout[1]}) == 6


def test_the_trainer_keeps_the_number_of_processes(small_data: Path, tmp_path: Path) -> None:
    config = TrainConfig.from_preset("notebook", batch_size=12, latent_dim=3, steps=1, processes=2, threads=1)
    trainer.train(load_data_set(small_data), tmp_path / "run", config)
    assert Checkpoint.open(tmp_path / "run").config.processes == 1  # it was alone, whatever it was told
