"""Runs for test_accelerator.py: the same on whatever device, and as alike as two devices can make them.

python -m tests.train.device_runs KIND DEVICE[,DEVICE...] FOLDER [NUDGE]

torchrun -m starts several processes that make one run together, on a single kind of device.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from vae_gen.data.datasets import DataSet
from vae_gen_train import evaluation, posterior_variances, prior, step, trainer
from vae_gen_train.config import TrainConfig
from vae_gen_train.distributed import World
from vae_gen_train.nets import VAE, build
from vae_gen_train.progress import Progress
from vae_gen_train.random_streams import seed_torch

from tests.train.conftest import blobs
from tests.train.small_runs import CrashError

PRIOR = {"prior_steps": 8, "flow_couplings": 2, "flow_width": 8}
EVERYTHING = {"accumulate": 2, "clip_norm": 1.0, "free_bits": 0.1, "kl_warmup": 3} | PRIOR
KINDS: dict[str, dict[str, object]] = {  # a preset, and what is changed in it
    "all of an mlp": {"preset": "mlp", "checkpoint_every": 100} | EVERYTHING,
    "conv": {"preset": "conv", "prior_steps": 0},
    "bf16": {"preset": "conv", "precision": "bf16", "prior_steps": 0},
    "pictures": {"preset": "notebook-relu", "objective": "bce"},
    "dropout, average and prior": {"preset": "notebook-relu", "ema": 0.9, "checkpoint_every": 1} | PRIOR,
    "own noise": {"preset": "mlp", "steps": 8, "checkpoint_every": 2} | PRIOR,
}
CHANGES = (3, -3)  # after which steps a run changes its device: one of the VAE's, and one of the prior's, from the end


def make(kind: str, devices: tuple[str, ...], run: Path, nudge: float = 0.0, streams: int = 0) -> None:
    """Make a run of that kind, on several devices if there are several: killed on one, resumed on the next.

    Except of the kind "own noise", all random numbers are drawn by the CPU, so that they are the same on all devices.
    Every first weight is multiplied by 1 + `nudge` times a draw from N(0, 1). All noise comes from random streams of
    the seed whose numbers are `streams` higher than they should be.
    """
    settings = {"latent_dim": 3, "batch_size": 16, "lr": 1e-3, "lr_warmup": 0, "steps": 4, "threads": 1}
    every = {"log_every": 1, "evaluate_every": 100, "picture_every": 6}
    config = TrainConfig.from_preset(**settings | every | KINDS[kind])
    data = coloured() if config.network == "conv" else grey()
    world = World.from_environment()
    with ExitStack() as stack:
        if world.size > 1:
            stack.enter_context(world.joined(world.select_device(*devices)))
        if kind != "pictures":
            stack.enter_context(patch.object(trainer, "draw_report", lambda *arguments: None))
        if kind != "own noise":
            stack.enter_context(noise_of_the_cpu())
        stack.enter_context(patch.object(trainer, "build", nudged(nudge)))
        stack.enter_context(patch.object(posterior_variances, "FEWEST", 256))  # which takes less time
        for module in (step, evaluation, prior):
            stack.enter_context(patch.object(module, "seed_torch", higher(streams)))
        for number, device in enumerate(devices):
            last = number == len(devices) - 1
            progress = Progress() if last else Progress(crash_after(CHANGES[number] % (config.total_steps + 1)))
            with contextlib.nullcontext() if last else pytest.raises(CrashError):
                if number == 0:
                    trainer.train(data, run, TrainConfig(**config.as_dict() | {"device": device}), progress, world)
                else:
                    trainer.resume(data, run, device=device, progress=progress, world=world)


def higher(streams: int) -> Callable[..., None]:
    """seed_torch, with streams whose numbers are that much higher."""
    return lambda seed, stream, *place: seed_torch(seed, stream + streams, *place)


def grey() -> DataSet:
    return DataSet("0" * 64, "1" * 64, blobs(110, 12, 8, 1)[:, None], blobs(10, 12, 8, 2)[:, None], None)


def coloured() -> DataSet:
    """Pictures large enough for the network of convolutions."""
    images = blobs(180, 16, 20, seed=3).reshape(60, 3, 16, 20)
    return DataSet("0" * 64, None, images[:40], images[40:], None)


def crash_after(step: int) -> Callable[[dict[str, object]], None]:
    def crash(record: dict[str, object]) -> None:
        if record["step"] == step:
            raise CrashError

    return crash


def nudged(size: float) -> Callable[..., VAE]:
    def built(*arguments: object) -> VAE:
        vae = build(*arguments)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in vae.parameters():
                weight.mul_(1 + size * torch.randn(weight.shape, generator=generator))
        return vae

    return built


@contextmanager
def noise_of_the_cpu() -> Iterator[None]:
    """Within it the CPU's generator, which has the same seed as the GPU's, draws for all devices."""
    randn, randint = torch.randn, torch.randint

    def drawn(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *arguments, device="cpu", **others: draw(*arguments, **others).to(device)

    def randn_like(like: Tensor) -> Tensor:
        return randn(like.shape, dtype=like.dtype).to(like.device)

    def dropout(input: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
        if not training or not p:
            return input
        return input * torch.full(input.shape, 1 - p).bernoulli().div(1 - p).to(input)

    with (
        patch.object(torch, "randn", drawn(randn)),
        patch.object(torch, "randint", drawn(randint)),
        patch.object(torch, "randn_like", randn_like),
        patch.object(torch.nn.functional, "dropout", dropout),
    ):
        yield


def main(kind: str, devices: str, run: str, nudge: str = "0") -> None:
    torch.backends.cudnn.allow_tf32 = False  # whose products have 11 bits
    if "standin" in devices:
        from tests.train.standin import Standin
    # A GPU that need not be asked for is not asked for.
    asked = {"cuda": "auto"}
    make(kind, tuple(asked.get(device, device) for device in devices.split(",")), Path(run), float(nudge))
    if "standin" in devices:
        assert Standin.exchanges > 0
    for device in {*devices.split(",")} - {"cpu", "standin"}:
        memory = torch.get_device_module(device)
        used = memory.max_memory_allocated() if device == "cuda" else memory.driver_allocated_memory()
        assert used > 0, f"nothing was computed on {device}"


if __name__ == "__main__":
    main(*sys.argv[1:])
