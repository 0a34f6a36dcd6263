"""Two processes of one run, of which the first works alone for long; test_distributed.py starts them by torchrun.

`python alone_for_long.py SCENE DATA FOLDER`. Each process that comes through writes its number.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from vae_gen.datasets import load_idx_directory
from vae_gen.errors import StoppedError
from vae_gen_train import distributed, trainer
from vae_gen_train.config import TrainConfig
from vae_gen_train.distributed import World
from vae_gen_train.prior import PriorFit

CPU = torch.device("cpu")


def meet(world: World, folder: Path) -> None:
    """Until both processes are here, so that neither waits for the other to start."""
    (folder / f"here-{world.rank}").touch()
    while not all((folder / f"here-{rank}").exists() for rank in range(world.size)):
        time.sleep(0.01)


def reading(world: World, data: Path, folder: Path) -> None:
    """Reads for longer than the others wait for a step."""
    meet(world, folder)
    distributed.TIMEOUT = timedelta(seconds=3)
    with world.joined(CPU), world.in_turns():
        if world.writes:
            time.sleep(4)
            (folder / "cached").touch()
        assert (folder / "cached").exists()


def prior(world: World, data: Path, folder: Path) -> None:
    """Fits the prior when the processes have parted, the first one with the steps to come."""

    class Alone(PriorFit):
        def __init__(self, *arguments: Any) -> None:
            assert not dist.is_initialized()
            assert world.writes
            super().__init__(*arguments)
            (folder / "fitted").touch()

    trainer.PriorFit = Alone
    config = TrainConfig.from_preset(
        "mlp", processes=2, latent_dim=2, batch_size=16, steps=2, prior_steps=2, log_every=1, lr_warmup=0
    )
    with world.joined(CPU):
        trainer.train(load_idx_directory(data), folder / "run", config, world=world)
        assert not dist.is_initialized()
    assert (folder / "fitted").exists() or not world.writes


def stopped(world: World, data: Path, folder: Path) -> None:
    """A signal, which stops all of them after the same step, parts them too."""
    try:
        with world.joined(CPU):
            raise StoppedError("stopped", 15)
    except StoppedError:
        assert not dist.is_initialized()


scenes = {scene.__name__: scene for scene in (reading, prior, stopped)}
world = World.from_environment()
scenes[sys.argv[1]](world, *map(Path, sys.argv[2:]))
sys.stdout.write(f"{world.rank}\n")
