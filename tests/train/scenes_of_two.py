"""Scenes with two processes of one run; test_distributed.py starts them by torchrun.

`python scenes_of_two.py SCENE DATA FOLDER`. Each process that comes through writes its number.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from vae_gen.data.datasets import load_data_set
from vae_gen.errors import StoppedError
from vae_gen_train import distributed, trainer
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.config import TrainConfig
from vae_gen_train.distributed import World
from vae_gen_train.posterior_variances import Seen

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


def report(world: World, data: Path, folder: Path) -> None:
    """The first process draws the report when they have parted."""

    def draw(*arguments: object) -> None:
        assert world.writes
        assert not dist.is_initialized()
        (folder / "drawn").touch()

    trainer.draw_report = draw
    config = TrainConfig.from_preset(
        "mlp", processes=2, latent_dim=2, batch_size=16, steps=2, prior_steps=2, log_every=1, lr_warmup=0
    )
    with world.joined(CPU):
        trainer.train(load_data_set(data), folder / "run", config, world=world)
        assert not dist.is_initialized()
    assert (folder / "drawn").exists() or not world.writes


def anew(world: World, data: Path, folder: Path) -> None:
    """Of a run that is there, the first process replaces the checkpoint when the other, slowly, has read it."""
    trainer.draw_report = lambda *arguments: None
    restore = Checkpoint.restore

    def slow(self: Checkpoint, *arguments: Any) -> None:
        time.sleep(world.rank)
        restore(self, *arguments)

    Checkpoint.restore = slow
    with world.joined(CPU):
        trainer.resume(load_data_set(data), folder / "run", prior_steps=3, world=world)


def sharing(world: World, data: Path, folder: Path) -> None:
    """What the processes measure, and their gradients, are put together; of a number that is odd, one counts twice."""
    images = load_data_set(data).train[:7]
    sums = torch.from_numpy(images.sum((1, 2, 3)) / 255.0)
    with world.joined(CPU):
        measured = Seen(CPU, world, lambda: 0).measured(lambda image: image.double().sum((1, 2, 3)), images, 7)
        assert torch.allclose(measured, sums[[0, 0, 1, 2, 3, 4, 5, 6]], rtol=1e-6)
        signalled = Seen(CPU, world, lambda: world.rank)  # one of them
        assert signalled.measured(lambda image: image, images, 7) is None

        weights = [torch.zeros(2, 3), torch.zeros(3), torch.zeros(1)]
        weights[0].grad = torch.arange(6.0).reshape(2, 3) * (1 + 2 * world.rank)
        weights[1].grad = torch.full((3,), float(world.rank))
        world.average_gradients(weights)
        assert torch.equal(weights[0].grad, torch.arange(6.0).reshape(2, 3) * 2)
        assert torch.equal(weights[1].grad, torch.full((3,), 0.5))
        assert weights[2].grad is None


def stopped(world: World, data: Path, folder: Path) -> None:
    """A signal, which stops all of them after the same step, ends their talk too."""
    try:
        with world.joined(CPU):
            raise StoppedError("stopped", 15)
    except StoppedError:
        assert not dist.is_initialized()


scenes = {scene.__name__: scene for scene in (reading, report, anew, sharing, stopped)}
world = World.from_environment()
scenes[sys.argv[1]](world, *map(Path, sys.argv[2:]))
Path(sys.argv[3], f"ended-{world.rank}").touch()  # not on stdout, where PyTorch 2.10 tells of its connections
