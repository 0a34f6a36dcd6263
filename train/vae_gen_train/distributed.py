"""Several processes that train one network, each on its share of every batch.

torchrun starts them and tells each its place in environment variables. Gradients and means are averaged over all of
them by torch.distributed: with gloo on CPUs, with NCCL between GPUs. Process 0 alone writes files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from vae_gen.cpus import usable_cpus
from vae_gen.errors import StoppedError, UsageError, VaeGenError

Rows = TypeVar("Rows", Tensor, npt.NDArray[np.int64])

TIMEOUT = timedelta(minutes=30)  # the others wait while process 0 evaluates and draws
READING_TIMEOUT = timedelta(days=1)  # ... and while it decodes pictures or downloads them


@dataclass(frozen=True)
class World:
    """This process's place among those that train together; by default it is alone."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among those on this machine
    local_size: int = 1

    @classmethod
    def from_environment(cls) -> World:
        """What torchrun says; a process that it did not start is alone. Raises UsageError for what is no number."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        try:
            return cls(*(int(os.environ[name]) for name in names)) if "WORLD_SIZE" in os.environ else cls()
        except (KeyError, ValueError) as error:
            raise UsageError(f"{', '.join(names)} must all be set to numbers, as torchrun does: {error}") from error

    @property
    def writes(self) -> bool:
        """Whether this process writes files, logs and messages."""
        return self.rank == 0

    def threads(self, wanted: int | None) -> int:
        """Threads to compute with: those of all processes here together take no more processors than may be used."""
        share = max(1, usable_cpus() // self.local_size)
        if wanted is None or self.size == 1:
            return wanted or share
        return min(wanted, share)

    def select_device(self, name: str) -> torch.device:
        """The device of that name, made the current one; "auto" is a CUDA GPU where there is one, else the CPU.

        Of several processes on a machine each has a GPU of its own. Raises UsageError.
        """
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
            if self.size > 1 and device.type == "mps":
                raise UsageError(f"several processes train on cuda or cpu, not on {name!r}; give one of these --device")
            if self.size > 1 and device.type != "cpu":
                devices = torch.get_device_module(device).device_count()
                if self.local_size > devices:
                    raise UsageError(
                        f"there are {self.local_size} processes on this machine and {devices} GPUs; "
                        "give torchrun an --nproc-per-node of at most that, or --device cpu"
                    )
                device = torch.device(device.type, self.local_rank)
            torch.zeros(1, device=device).cpu()
            if device.type != "cpu" and device.index is not None:
                torch.accelerator.set_device_index(device)  # NCCL takes the current one
        except (RuntimeError, AssertionError, ImportError) as error:
            reason = str(error).splitlines()[0].split(". ")[0]
            raise UsageError(f"device {name!r} cannot be used here ({reason}); try auto or cpu") from error
        return device

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Within it, and until they part, the processes can talk to each other."""
        if self.size == 1:
            yield
            return
        # What is decided on the CPU travels by gloo beside GPUs too, so that none of them is waited for.
        carriers = {kind: dist.get_default_backend_for_device(kind) for kind in ("cpu", device.type)}
        with self.explained("starting"):
            dist.init_process_group(",".join(map(":".join, carriers.items())), timeout=TIMEOUT)
        try:
            yield
        except StoppedError:  # all stop after the same step; after an error, NCCL would wait for those that are gone
            self.part()
            raise
        self.part()

    def part(self) -> None:
        """End the talk, before one process goes on alone: NCCL wants all processes to end it at about the same time."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    @contextmanager
    def explained(self, moment: str) -> Iterator[None]:
        """Turn the loss of another process into VaeGenError."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error).lower()):
                raise
            raise VaeGenError(
                f"process {self.rank} of {self.size}: another process of this run is gone ({moment}). The last "
                "checkpoint stays; start all processes again, with --resume and the run's directory"
            ) from error

    @property
    def turn(self) -> int:
        """When it reads the data: process 0 at 0, the first one on every other machine at 1, the others at 2."""
        return 0 if self.rank == 0 else 1 if self.local_rank == 0 else 2

    @contextmanager
    def in_turns(self) -> Iterator[None]:
        """The processes run the block in their turns, so that what the first put into a cache is there for others."""
        if self.size == 1:
            yield
            return
        with self.explained("reading the data"):
            patient = dist.new_group(backend="gloo", timeout=READING_TIMEOUT)
            for turn in range(3):
                if turn == self.turn:
                    yield
                dist.all_reduce(torch.zeros(1), group=patient)  # until every process has come here

    def wrap(self, network: nn.Module) -> nn.Module:
        """`network`, with gradients that are averaged over all processes."""
        if self.size == 1:
            return network
        return DistributedDataParallel(network)

    def average(self, value: Tensor) -> Tensor:
        """The mean of `value` over all processes; the gradient is that of this process's share.

        The wrapped network averages gradients, so a function of the mean has the gradient that it would have in one
        process.
        """
        if self.size == 1:
            return value
        mean = value.detach().clone()
        dist.all_reduce(mean)
        return value + (mean / self.size - value.detach())

    def share(self, rows: Rows) -> Rows:
        """This process's part of a tensor or an array whose rows are divided evenly, in the processes' order."""
        start, stop = (len(rows) * edge // self.size for edge in (self.rank, self.rank + 1))
        return rows[start:stop]

    def gathered(self, share: Tensor) -> Tensor:
        """The parts of all processes, which are of one shape, in the processes' order."""
        if self.size == 1:
            return share
        found = [torch.empty_like(share) for _ in range(self.size)]
        dist.all_gather(found, share)
        return torch.cat(found)

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace the gradients of these by their means over all processes, where no wrapped network does it."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.size == 1 or not gradients:
            return
        together = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(together)
        parts = torch.split(together / self.size, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def largest(self, number: int) -> int:
        """The largest of the numbers that the processes give, so that they decide alike."""
        if self.size == 1:
            return number
        found = torch.tensor(number)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)


ALONE = World()
