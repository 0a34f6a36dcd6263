"""The training loop: data in, a run's directory out.

A run's directory holds
    config.json              the configuration, the data and the package versions, for people to read
    checkpoint.safetensors   the newest checkpoint (see checkpoint.py)
    metrics.jsonl            one JSON object a line: training losses, and evaluations of whole splits
    reconstructions/         inputs over reconstructions, one PNG every so many steps
and, when it is finished, what report.py draws.

Nothing is carried from step to step but tensors: the batch and the random numbers of step t are functions
of (seed, t). A run that was stopped and resumed is therefore bit-identical to one that never stopped, on
the same machine with the same number of threads.
"""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from vae_gen.cpus import usable_cpus
from vae_gen.datasets import DataSet
from vae_gen.errors import OutputError, StoppedError, UsageError, VaeGenError
from vae_gen.files import make_folder

from vae_gen_train import checkpoint
from vae_gen_train.batches import batches
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.config import TrainConfig
from vae_gen_train.evaluation import Losses, evaluate_splits, latent_statistics, seed_torch, to_float
from vae_gen_train.metrics_log import MetricsLog, Progress, no_progress
from vae_gen_train.nets import VAE, build
from vae_gen_train.objective import sse_objective
from vae_gen_train.report import draw_reconstructions, draw_report

CONFIG = "config.json"
STREAM = 0  # which of a seed's random streams training steps draw from; evaluations have 1


def train(data: DataSet, run: Path, config: TrainConfig, progress: Progress = no_progress) -> None:
    """Train a new network in the new directory `run`.

    `progress` is called with every record that goes into the metrics log. Ctrl-C (SIGINT), SIGTERM or SIGHUP
    finishes the step, saves a checkpoint and raises StoppedError.
    Raises VaeGenError if the losses are no longer finite, UsageError if the device is unknown, OutputError if
    `run` cannot be made or is not empty.
    """
    config = dataclasses.replace(config, threads=config.threads or usable_cpus())
    device = select_device(config.device)
    torch.manual_seed(config.seed)
    vae = build(config.network, data.image_shape, config.latent_dim)
    make_folder(run)
    if any(run.iterdir()):
        raise OutputError(f"{run} is not empty; choose another --out, or continue a run with --resume {run}")
    with _output_errors(run):
        _Run(data, run, config, vae, device, progress).go(first_step=0)


def resume(
    data: DataSet,
    run: Path,
    steps: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    progress: Progress = no_progress,
) -> None:
    """Continue the run in the directory `run`, to its configured number of steps or to `steps`.

    Another `device` or number of `threads` than the run began with gives other roundings. A run that is finished
    only has its report drawn again. Raises as `train` does, DataError if there is no checkpoint, and UsageError
    if `data` is not what the run began with or `steps` are fewer than are done.
    """
    saved = Checkpoint.open(run)
    if data.describe() != saved.data:
        found = f"{data.origin['path'] or 'MNIST'} gives " if data.origin else "now there are "
        raise UsageError(
            f"{run} was begun with other data: {found}{'; '.join(data.differences(saved.data))}. "
            "Give --data the images it was begun with, or begin a new run"
        )
    given = {"steps": steps, "device": device, "threads": threads}
    config = TrainConfig(**saved.config.as_dict() | {name: value for name, value in given.items() if value is not None})
    if config.steps < saved.step:
        raise UsageError(f"steps is {config.steps}, but {run} has already done {saved.step}")
    vae = build(config.network, data.image_shape, config.latent_dim)
    training = _Run(data, run, config, vae, select_device(config.device), progress)
    saved.restore(training.vae, training.optimiser)
    with _output_errors(run):
        training.go(first_step=saved.step)


def select_device(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU where there is one. Raises UsageError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {name!r} cannot be used here ({reason}); try auto or cpu") from error
    return device


def package_versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("vae-gen", "torch", "numpy")}


class _Run:
    """One process's work on a run: the network, its optimiser, and the loop over steps."""

    def __init__(
        self, data: DataSet, run: Path, config: TrainConfig, vae: VAE, device: torch.device, progress: Progress
    ) -> None:
        self.data, self.run, self.config, self.device, self.progress = data, run, config, device, progress
        torch.backends.cudnn.deterministic = True
        torch.set_num_threads(config.threads or usable_cpus())
        # As fast as the other layout on a CPU (benchmarks/train_step.py); the models that ship were trained with it.
        self.vae = vae.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(self.vae.parameters(), config.lr, fused=True)

    def go(self, first_step: int) -> None:
        config = self.config
        about = {"config": config.as_dict(), "data": self.data.describe(), "packages": package_versions()}
        about |= {"source": dict(self.data.origin)} if self.data.origin else {}
        (self.run / CONFIG).write_text(json.dumps(about, indent=2) + "\n", "utf-8")
        if first_step == 0:
            self._save(0)  # from here on the run can be resumed
        make_folder(self.run / "reconstructions")
        self.vae.train()
        order = batches(config.seed, len(self.data.train), config.batch_size, first_step)
        started = time.monotonic()
        with MetricsLog(self.run, first_step, self.progress) as log, _stop_signals() as stop_requested:
            for step in range(first_step + 1, config.steps + 1):
                losses = self._step(step, next(order))
                last, stopping = step == config.steps, stop_requested()
                saving = bool(last or stopping or step % config.checkpoint_every == 0)
                if last or step % config.log_every == 0:
                    seconds = round(time.monotonic() - started, 3)
                    log.add(step, "train", losses(), seconds=seconds)
                if last or step % config.evaluate_every == 0:
                    for split, result in evaluate_splits(self.vae, self.data, config.seed, self.device).items():
                        log.add(step, split, result)
                if last or step % config.picture_every == 0:
                    path = self.run / "reconstructions" / f"step-{step:06d}.png"
                    draw_reconstructions(self.vae, self.data.validation, self.device, path)
                if saving:
                    losses()
                    log.flush()
                    self._save(step)
                if stopping and not last:
                    message = f"step {step} of {config.steps} is saved; go on with --resume {self.run}"
                    raise StoppedError(message, stopping)
        draw_report(self.run, self.vae, config.latent_dim, self.device)

    def _step(self, step: int, indices: npt.NDArray[np.int64]) -> Callable[[], Losses]:
        """One optimiser step. Its losses come as a function, so that a GPU is not waited for at every step.

        The function raises VaeGenError if they are not finite.
        """
        seed_torch(self.config.seed, STREAM, step)
        image = to_float(self.data.train[indices], self.device)
        terms = sse_objective(self.vae, image)
        reconstruction, kl = terms.reconstruction.mean(), terms.kl.mean()
        self.optimiser.zero_grad()
        (reconstruction + kl).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

        def losses() -> Losses:
            found = Losses.of(reconstruction.item(), kl.item())
            if not math.isfinite(found.total):
                raise VaeGenError(
                    f"the losses at step {step} are no longer finite numbers; begin again with an --lr below "
                    f"{self.config.lr:g}. The last checkpoint in {self.run} is from before"
                )
            return found

        return losses

    def _save(self, step: int) -> None:
        checkpoint.save(
            self.run,
            self.vae,
            self.optimiser,
            self.config,
            step=step,
            image_shape=self.data.image_shape,
            data=self.data.describe(),
            packages=package_versions(),
            latents=latent_statistics(self.vae, self.data.validation, self.device),
        )


@contextmanager
def _output_errors(run: Path) -> Iterator[None]:
    """Turn the operating system's refusals into OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write to {error.filename or run}: {error.strerror or error}") from error


@contextmanager
def _stop_signals() -> Iterator[Callable[[], int]]:
    """Within it, the first SIGINT, SIGTERM or SIGHUP is only noted; a second one acts as it always does.

    What it yields gives the number of the signal, or 0. Signals that are ignored (nohup) stay so.
    """
    if threading.current_thread() is not threading.main_thread():  # only there can signals be received
        yield lambda: 0
        return
    received: list[int] = []
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
