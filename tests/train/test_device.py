"""The trainer on a device that is not the CPU: what it asks of it. test_accelerator.py has whole runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from vae_gen.data.datasets import DataSet
from vae_gen.errors import UsageError
from vae_gen_train.devices import memory_format
from vae_gen_train.distributed import ALONE, World
from vae_gen_train.divergence import Watch
from vae_gen_train.nets import build
from vae_gen_train.step import Stepper

from tests.train.small_runs import config
from tests.train.standin import Standin

DEVICE = torch.device("standin", 0)


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
    assert there.to("cpu", non_blocking=True).isnan().all()


@pytest.mark.parametrize("network", ["notebook-relu", "conv"])
def test_convolutions_have_weights_that_apples_gpus_read_rightly(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def seeing(convolve: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda image, weight, *others: seen.append(weight) or convolve(image, weight, *others)

    for name in ("conv2d", "conv_transpose2d"):
        monkeypatch.setattr(F, name, seeing(getattr(F, name)))
    vae = build(network, (3, 16, 16), 3).to(memory_format=memory_format(torch.device("mps")))
    vae(torch.rand(2, 3, 16, 16))
    assert len(seen) == {"notebook-relu": 6, "conv": 5}[network]
    assert all(weight.is_contiguous() for weight in seen)


def test_steps_do_not_wait_for_the_gpu(data: DataSet, tmp_path: Path) -> None:
    settings = config("mlp", precision="bf16", accumulate=2, clip_norm=1.0, free_bits=0.1, kl_warmup=3)
    vae = build("mlp", data.image_shape, settings.latent_dim).to(DEVICE)
    optimiser = torch.optim.Adam(vae.parameters(), fused=True)
    stepper = Stepper(vae, optimiser, data.train, settings, DEVICE, ALONE)
    watch = Watch(tmp_path, vae.parameters(), settings, DEVICE, writes=True)
    before = Standin.waits
    for step in (1, 2, 3):
        reading = stepper.gradients(step, np.arange(16))
        watch.look(reading)
        stepper.apply(step)
    assert Standin.waits == before
    assert reading.losses.total > 0
    assert Standin.waits == before + 1
    watch.settle()
    assert Standin.waits == before + 2 + len(list(vae.parameters()))


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
    with pytest.raises(UsageError, match="several processes train on cuda or cpu, not on 'mps'"):
        World(0, 2, 0, 2).select_device("mps")
