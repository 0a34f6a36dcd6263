"""The training loop: data in, a run's directory out.

A run's directory holds
    config.json              the configuration, the data and the package versions, for people to read
    checkpoint.safetensors   the state of the newest checkpoint (see checkpoint.py)
    metrics.jsonl            one JSON object a line: training losses, and evaluations of whole splits
    reconstructions/         inputs over reconstructions, one PNG every so many steps
and, when it is finished, what report.py draws.

Nothing is carried from step to step but tensors: the batch and the random numbers of step t are functions
of (seed, t). A run that was stopped and resumed is therefore bit-identical to one that never stopped, on
the same machine with the same number of threads.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_gen.errors import OutputError, UsageError
from vae_gen_train import checkpoint
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.config import TrainConfig
from vae_gen_train.data import DataSet, Images, batches
from vae_gen_train.nets import VAE, build
from vae_gen_train.objective import kl_to_standard_normal, sum_of_squared_errors
from vae_gen_train.report import draw_reconstructions, draw_report

METRICS = "metrics.jsonl"
EVALUATION_BATCH = 500
STEPS, EVALUATION = 0, 1  # the random streams that a run's seed is split into
Record = dict[str, Any]
Progress = Callable[[Record], None]


@dataclass(frozen=True)
class Losses:
    """Means over images, in nats: `reconstruction` is the sum of squared errors."""

    reconstruction: float
    kl: float

    @property
    def total(self) -> float:
        return self.reconstruction + self.kl

    def as_record(self) -> Record:
        return {"reconstruction": self.reconstruction, "kl": self.kl, "total": self.total}


def train(data: DataSet, run: Path, config: TrainConfig, progress: Progress = lambda record: None) -> None:
    """Train a new network in the new directory `run`.

    `progress` is called with every record that goes into the metrics log. Ctrl-C (SIGINT) or SIGTERM
    finishes the step, saves a checkpoint and raises KeyboardInterrupt.
    Raises UsageError if the device is unknown, OutputError if `run` cannot be made or is not empty.
    """
    device = select_device(config.device)
    torch.manual_seed(config.seed)
    vae = build(config.network, data.image_shape, config.latent_dim)
    try:
        run.mkdir(parents=True, exist_ok=True)
        if any(run.iterdir()):
            raise OutputError(f"{run} is not empty; choose another --out, or continue a run with --resume {run}")
        description = {"config": config.as_dict(), "data": data.describe(), "packages": package_versions()}
        (run / "config.json").write_text(json.dumps(description, indent=2) + "\n", "utf-8")
        (run / METRICS).touch()
    except OSError as error:
        raise OutputError(f"cannot write to {run}: {error}") from error
    _Run(data, run, config, vae, device, progress).go(first_step=0)


def resume(data: DataSet, run: Path, steps: int | None = None, progress: Progress = lambda record: None) -> None:
    """Continue the run in the directory `run`, to its configured number of steps or to `steps`.

    Raises DataError if there is no checkpoint, UsageError if `data` is not what the run began with.
    """
    saved = Checkpoint.open(run)
    if data.describe() != saved.data:
        raise UsageError(f"{run} was begun with other data: {saved.data}; --data gives {data.describe()}")
    config = saved.config if steps is None else TrainConfig(**saved.config.as_dict() | {"steps": steps})
    if config.steps < saved.step:
        raise UsageError(f"steps is {config.steps}, but {run} has already done {saved.step}")
    vae = build(config.network, data.image_shape, config.latent_dim)
    training = _Run(data, run, config, vae, select_device(config.device), progress)
    saved.restore(training.vae, training.optimiser)
    _forget_metrics_after(run / METRICS, saved.step)
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


def evaluate(vae: VAE, images: Images, seed: int, device: torch.device) -> Losses:
    """Mean losses over `images`, without dropout, with one draw from each posterior."""
    was_training = vae.training
    vae.eval()
    reconstruction = kl = 0.0
    with torch.inference_mode():
        for number, start in enumerate(range(0, len(images), EVALUATION_BATCH)):
            _seed_everything(seed, EVALUATION, number)
            batch = to_float(images[start : start + EVALUATION_BATCH], device)
            output, mean, log_var = vae(batch)
            reconstruction += sum_of_squared_errors(output, batch).double().sum().item()
            kl += kl_to_standard_normal(mean, log_var).double().sum().item()
    vae.train(was_training)
    return Losses(reconstruction / len(images), kl / len(images))


def to_float(images: Images, device: torch.device) -> Tensor:
    """uint8 [n, C, H, W] -> float32 in [0, 1] on `device`."""
    batch = torch.tensor(images, device=device)
    return batch.to(torch.float32, memory_format=torch.channels_last).div_(255)


class _Run:
    """One process's work on a run: the network, its optimiser, and the loop over steps."""

    def __init__(
        self, data: DataSet, run: Path, config: TrainConfig, vae: VAE, device: torch.device, progress: Progress
    ) -> None:
        self.data, self.run, self.config, self.device, self.progress = data, run, config, device, progress
        torch.backends.cudnn.deterministic = True
        # Convolutions with channels last: a fifth less time per step on a CPU (benchmarks/train_step.py).
        self.vae = vae.to(device, memory_format=torch.channels_last)
        self.optimiser = torch.optim.Adam(self.vae.parameters(), config.lr, fused=True)

    def go(self, first_step: int) -> None:
        config = self.config
        (self.run / "reconstructions").mkdir(exist_ok=True)
        self.vae.train()
        order = batches(config.seed, len(self.data.train), config.batch_size, first_step)
        started, saved_step = time.monotonic(), first_step
        with (self.run / METRICS).open("a", encoding="utf-8") as log, _stop_signals() as stop_requested:
            for step in range(first_step + 1, config.steps + 1):
                losses = self._step(step, next(order))
                last = step == config.steps
                if last or step % config.log_every == 0:
                    record = {"step": step, "split": "train", **losses().as_record()}
                    record["seconds"] = round(time.monotonic() - started, 3)
                    self._log(log, record)
                if last or step % config.evaluate_every == 0:
                    self._evaluate(log, step)
                if last or step % config.picture_every == 0:
                    path = self.run / "reconstructions" / f"step-{step:06d}.png"
                    draw_reconstructions(self.vae, self.data.validation, self.device, path)
                if last or stop_requested() or step % config.checkpoint_every == 0:
                    log.flush()
                    os.fsync(log.fileno())
                    self._save(step)
                    saved_step = step
                if stop_requested():
                    raise KeyboardInterrupt(f"stopped after step {saved_step}")
        draw_report(self.run, self.vae, self.device, config)

    def _step(self, step: int, indices: np.ndarray) -> Callable[[], Losses]:
        """One optimiser step. Its losses come as a function, so that a GPU is not waited for at every step."""
        _seed_everything(self.config.seed, STEPS, step)
        image = to_float(self.data.train[indices], self.device)
        output, mean, log_var = self.vae(image)
        reconstruction = sum_of_squared_errors(output, image).mean()
        kl = kl_to_standard_normal(mean, log_var).sum(1).mean()
        self.optimiser.zero_grad()
        (reconstruction + kl).backward()
        self.optimiser.step()
        return lambda: Losses(reconstruction.item(), kl.item())

    def _evaluate(self, log: Any, step: int) -> None:
        for split, images in (("validation", self.data.validation), ("test", self.data.test)):
            if images is not None:
                losses = evaluate(self.vae, images, self.config.seed, self.device)
                self._log(log, {"step": step, "split": split, **losses.as_record()})

    def _log(self, log: Any, record: Record) -> None:
        log.write(json.dumps(record) + "\n")
        self.progress(record)

    def _save(self, step: int) -> None:
        checkpoint.save(
            self.run,
            self.vae,
            self.optimiser,
            step=step,
            config=self.config,
            image_shape=self.data.image_shape,
            data=self.data.describe(),
            packages=package_versions(),
        )


def _seed_everything(*key: int) -> None:
    """Make torch's generators a function of `key`."""
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))


def _forget_metrics_after(path: Path, step: int) -> None:
    """Drop what an interrupted run logged after its last checkpoint; it will be logged again."""
    kept: list[str] = []
    for line in path.read_text("utf-8").splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except ValueError:  # the line that was being written when the machine went down
            break
    partial = path.with_suffix(".partial")
    partial.write_text("".join(kept), "utf-8")
    os.replace(partial, path)


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Within it, the first SIGINT or SIGTERM only sets a flag; a second one acts as it always does."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
