"""The trainer on a device that is not the CPU; standin.py says on which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from vae_gen.datasets import DataSet, load_idx_directory
from vae_gen.errors import UsageError
from vae_gen_train import trainer
from vae_gen_train.config import TrainConfig
from vae_gen_train.distributed import ALONE, World
from vae_gen_train.divergence import Watch
from vae_gen_train.nets import build
from vae_gen_train.progress import Progress
from vae_gen_train.step import Stepper

from tests.runs import hashes
from tests.train.conftest import blobs
from tests.train.standin import Event, Standin
from tests.train.test_trainer import CrashError, assert_same_run
from tests.train.test_trainer import config as small_config

DEVICE = torch.device("standin", 0)
PRIOR = {"prior_steps": 8, "flow_couplings": 2, "flow_width": 8}
EVERYTHING = {"precision": "bf16", "accumulate": 2, "clip_norm": 1.0, "free_bits": 0.1, "kl_warmup": 3} | PRIOR


def config(preset: str, device: str, **changes: object) -> TrainConfig:
    return small_config(preset, **{"threads": 1, "steps": 4, "evaluate_every": 100, "device": device} | changes)


@pytest.fixture
def data(small_data: Path) -> DataSet:
    return load_idx_directory(small_data)


@pytest.fixture
def colours() -> DataSet:
    """Pictures large enough for the network of convolutions."""
    images = blobs(180, 16, 20, seed=3).reshape(60, 3, 16, 20)
    return DataSet("0" * 64, None, images[:40], images[40:], None)


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "draw_report", lambda *arguments: None)


def test_the_standin_refuses_what_a_gpu_refuses() -> None:
    here, there = torch.ones(3), torch.ones(3, device=DEVICE)
    weight = torch.ones(3, 3, requires_grad=True)
    for mistake in (
        lambda: there + here,
        lambda: here.add_(there),
        lambda: torch.cat([there, here]),
        lambda: torch.stack([there.sum(), here.sum()]),
        lambda: there @ weight,
        lambda: there.normal_(generator=torch.Generator()),
    ):
        with pytest.raises(RuntimeError, match="standin"):
            mistake()
    for mistake in (there.numpy, there.double, lambda: np.asarray(there)):
        with pytest.raises((TypeError, RuntimeError), match=r"standin has no float64|numpy\(\) is not supported"):
            mistake()
    assert (there[torch.tensor([0, 2])] + torch.tensor(1.0)).cpu().tolist() == [2, 2]
    arriving = there.to("cpu", non_blocking=True)
    assert arriving.isnan().all()
    event = Event()
    event.record()
    event.synchronize()
    assert torch.equal(arriving, here)


@pytest.mark.usefixtures("no_report")
def test_a_run_on_another_device_is_the_same_run(data: DataSet, tmp_path: Path) -> None:
    for device in ("cpu", "standin"):
        trainer.train(data, tmp_path / device, config("mlp", device, checkpoint_every=100, **EVERYTHING))
    assert_same_run(tmp_path / "standin", tmp_path / "cpu")


@pytest.mark.usefixtures("no_report")
def test_convolutions_on_another_device_are_the_same(colours: DataSet, tmp_path: Path) -> None:
    for device in ("cpu", "standin"):
        trainer.train(
            colours, tmp_path / device, config("conv", device, objective="sse", precision="bf16", prior_steps=0)
        )
    assert_same_run(tmp_path / "standin", tmp_path / "cpu")


def test_dropout_and_pictures_on_another_device_are_the_same(data: DataSet, tmp_path: Path) -> None:
    for device in ("cpu", "standin"):
        run = tmp_path / device / "run"  # the loss curve's title has the folder's name
        run.parent.mkdir()
        trainer.train(data, run, config("notebook-relu", device, objective="bce"))
    assert_same_run(tmp_path / "standin/run", tmp_path / "cpu/run")
    found, expected = (
        {name: value for name, value in hashes(tmp_path / device).items() if name.endswith((".png", ".gif"))}
        for device in ("standin", "cpu")
    )
    assert found == expected
    assert len(expected) == 8


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("devices", [("cpu", "standin", "cpu"), ("standin", "cpu", "standin")])
def test_a_run_goes_on_on_another_device(data: DataSet, tmp_path: Path, devices: tuple[str, str, str]) -> None:
    def crash_at(step: int) -> Progress:
        def crash(record: dict[str, object]) -> None:
            if record["step"] == step:
                raise CrashError

        return Progress(crash)

    settings = {"checkpoint_every": 1, "ema": 0.9} | PRIOR
    trainer.train(data, tmp_path / "whole", config("notebook-relu", "cpu", **settings))
    with pytest.raises(CrashError):
        trainer.train(data, tmp_path / "run", config("notebook-relu", devices[0], **settings), crash_at(3))
    with pytest.raises(CrashError):
        trainer.resume(data, tmp_path / "run", device=devices[1], progress=crash_at(9))
    trainer.resume(data, tmp_path / "run", device=devices[2])
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_steps_do_not_wait_for_the_gpu(data: DataSet, tmp_path: Path) -> None:
    settings = config("mlp", "standin", **EVERYTHING)
    vae = build("mlp", data.image_shape, settings.latent_dim).to(DEVICE)
    optimiser = torch.optim.Adam(vae.parameters(), fused=True)
    stepper = Stepper(vae, optimiser, data.train, settings, DEVICE, ALONE)
    watch = Watch(tmp_path, vae.parameters(), settings, writes=True)
    before = Standin.waits
    for step in (1, 2, 3):
        reading = stepper.gradients(step, np.arange(16))
        watch.look(reading)
        stepper.apply(step)
    assert Standin.waits == before
    assert reading._numbers.isnan().all()  # they are still under way
    assert reading.losses.total > 0
    vae.encoder.mean.bias[0].item()
    assert Standin.waits == before + 1


def test_the_chosen_gpu_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "set_device_index", chosen.append)
    assert ALONE.select_device("standin:0") == DEVICE
    assert ALONE.select_device("standin") == torch.device("standin")
    assert ALONE.select_device("cpu") == ALONE.select_device("auto") == torch.device("cpu")
    assert chosen == [DEVICE]


@pytest.mark.parametrize("name", ["vulkan", "meta", "hpu", "cuda:99", "gpu", ""])
def test_a_device_that_is_not_there_is_refused_in_a_line(name: str) -> None:
    with pytest.raises(UsageError, match=f"^device '{name}' cannot be used here .*; try auto or cpu$") as raised:
        ALONE.select_device(name)
    assert len(str(raised.value)) < 300


def test_several_processes_need_a_device_that_they_can_exchange_gradients_on() -> None:
    with pytest.raises(UsageError, match="several processes train on cuda or cpu, not on 'standin'"):
        World(0, 2, 0, 2).select_device("standin")
