"""The training loop: data in, a run's directory out.

A run's directory holds
    config.json              the configuration, the data and the package versions, for people to read
    checkpoint.safetensors   the newest checkpoint (see checkpoint.py)
    metrics.jsonl            one JSON object a line: training losses, and evaluations of whole splits
    reconstructions/         inputs over reconstructions, one PNG every so many steps
    diverged.json            only where losses stopped being finite: the step, and its images
and, when it is finished, what report.py draws. Of several processes, the first alone writes them.

Nothing is carried from step to step but tensors: the batch and the random numbers of step t are functions
of (seed, t). A run that was stopped and resumed is therefore bit-identical to one that never stopped, on
the same machine with the same number of threads and processes.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from vae_gen.data.datasets import DataSet
from vae_gen.errors import OutputError, StoppedError, UsageError, VaeGenError
from vae_gen.files import make_folder, when_free, whole_file
from vae_gen.shell import quoted
from vae_gen.stores.local import LocalStore

from vae_gen_train import advice, checkpoint
from vae_gen_train.allocation import keep_freed_memory
from vae_gen_train.averaging import averaged_copy, update_average
from vae_gen_train.batches import batches
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.config import CHANGEABLE, TrainConfig
from vae_gen_train.config import FILE_NAME as CONFIG
from vae_gen_train.contention import Contention
from vae_gen_train.devices import memory_format
from vae_gen_train.distributed import ALONE, World
from vae_gen_train.divergence import FILE_NAME as DIVERGED
from vae_gen_train.divergence import Watch
from vae_gen_train.evaluation import evaluate_splits, latent_statistics
from vae_gen_train.metrics_log import MetricsLog
from vae_gen_train.nets import VAE, build
from vae_gen_train.prior import PriorFit, has_variances
from vae_gen_train.progress import SILENT, Progress
from vae_gen_train.report import draw_reconstructions, draw_report
from vae_gen_train.step import Reading, Stepper, adam
from vae_gen_train.stopping import stop_signals

RECONSTRUCTIONS = "reconstructions"  # the folder in a run's directory
LARGE = 64 * 64 * 3  # values of an image


def train(data: DataSet, run: Path, config: TrainConfig, progress: Progress = SILENT, world: World = ALONE) -> None:
    """Train a new network in the new directory `run`.

    `world` is this process's place among those that train together; they have joined (World.joined) before.
    Ctrl-C (SIGINT), SIGTERM or SIGHUP finishes the step, saves a checkpoint and raises StoppedError.
    Raises VaeGenError if training diverges or another process is lost, UsageError if the device is unknown or the batch
    cannot be shared, OutputError if `run` cannot be made, is not empty or is another process's.
    """
    config = dataclasses.replace(config, threads=world.threads(config.threads), processes=world.size)
    device = world.select_device(config.device)
    torch.manual_seed(config.seed)
    with _memory_errors():
        vae = build(config.network, data.image_shape, config.latent_dim)
    if world.writes:
        make_folder(run)
    with _alone(run, world, "choose another --out"), _output_errors(run), _memory_errors(), world.explained("starting"):
        if world.writes:
            check_new(run)
        _Run(data, run, config, vae, device, progress, world).go(first_step=0)


def check_new(run: Path) -> None:
    """Raise OutputError if no run can begin in the directory `run`: it is not empty, or it cannot be one."""
    if file := next((path for path in (run, *run.parents) if path.is_file()), None):
        which = "it" if file == run else file
        raise OutputError(f"cannot write to {run}: {which} is a file; give --out the name of a directory")
    if LocalStore(str(run)).names():
        raise OutputError(f"{run} is not empty; choose another --out, or continue a run with --resume {quoted(run)}")


def resume(data: DataSet, run: Path, progress: Progress = SILENT, world: World = ALONE, **changes: Any) -> None:
    """Continue the run in the directory `run` as it was configured, but for `changes` to config.CHANGEABLE.

    Another `device`, or number of `threads` or processes, than the run began with gives other roundings, and another
    kind of device other noise. Where the learning rate falls with the schedule, other `steps` make it another schedule
    from here on. Other `prior_steps` fit the prior anew, to the same VAE. `checkpoint_every` and `evaluate_every`, in
    steps, change nothing that is learnt. A run that is finished only has its report drawn again.
    Raises as `train` does, DataError if there is no checkpoint, and UsageError if `data` is not what the run began with
    or `steps` are fewer than are done.
    """
    if unknown := changes.keys() - set(CHANGEABLE):
        raise TypeError(f"{', '.join(sorted(unknown))} cannot change; {', '.join(CHANGEABLE)} can")
    changes = {name: value for name, value in changes.items() if value is not None}
    way_out = "wait for it, or end it: Ctrl-C and SIGTERM save what it has done"
    with _alone(run, world, way_out), _output_errors(run), _memory_errors(), world.explained("starting"):
        saved = Checkpoint.open(run)
        _check_same_data(run, saved, data)
        config = resumed_config(saved, changes, world)
        vae = build(config.network, data.image_shape, config.latent_dim)
        training = _Run(data, run, config, vae, world.select_device(config.device), progress, world)
        saved.restore(training.vae, training.averaged, training.optimiser)
        world.largest(0)  # all have read the checkpoint, before the first replaces it
        training.go(first_step(saved, config), saved)


def _check_same_data(run: Path, saved: Checkpoint, data: DataSet) -> None:
    differences = data.differences(saved.data)
    if differences:
        found = f"{data.origin['path'] or 'MNIST'} gives " if data.origin else "now there are "
        raise UsageError(
            f"{run} was begun with other data: {found}{'; '.join(differences)}. "
            "Give --data the images it was begun with, or begin a new run"
        )


def resumed_config(saved: Checkpoint, changes: dict[str, Any], world: World) -> TrainConfig:
    """The configuration of a run that goes on with these changes. Raises UsageError if it cannot go on so."""
    run = saved.path.parent
    config = dataclasses.replace(saved.config, **changes, processes=world.size)
    config = dataclasses.replace(config, threads=world.threads(config.threads))
    if saved.has_prior and config.steps != saved.config.steps:
        raise UsageError(
            f"steps is {config.steps}, but the prior of {run} belongs to the network after {saved.config.steps}; "
            "leave out --steps, or begin a new run with another --out"
        )
    if saved.has_prior and not config.prior_steps:
        raise UsageError(f"prior-steps is 0, but {run} has a prior; give at least 1 to fit it anew")
    if first_step(saved, config) > (config.total_steps if saved.has_prior else config.steps):
        raise UsageError(f"steps is {config.steps}, but {run} has already done {saved.step}; give it more, or none")
    return config


def first_step(saved: Checkpoint, config: TrainConfig) -> int:
    """The step after which a saved run goes on: its last one, or the VAE's last one if the prior is fitted anew."""
    anew = saved.has_prior and config.prior_steps != saved.config.prior_steps
    return config.steps if anew else saved.step


def package_versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("vae-gen", "torch", "numpy")}


class _Run:
    """One process's work on a run: the network, its optimiser, and the loop over steps."""

    def __init__(
        self,
        data: DataSet,
        run: Path,
        config: TrainConfig,
        vae: VAE,
        device: torch.device,
        progress: Progress,
        world: World,
    ) -> None:
        self.data, self.run, self.config, self.device, self.world = data, run, config, device, world
        self.progress = progress if world.writes else SILENT
        torch.backends.cudnn.deterministic = True
        torch.set_num_threads(config.threads or 1)
        keep_freed_memory()
        self.vae = vae.to(device).to(memory_format=memory_format(device))  # type: ignore[call-overload]
        self.averaged = averaged_copy(self.vae) if config.ema else self.vae  # what is evaluated, drawn and exported
        self.optimiser = adam(self.vae, config)
        self.stepper = Stepper(self.vae, self.optimiser, data.train, config, device, world)
        self.contention = Contention(config.threads or 1) if device.type == "cpu" and world.size == 1 else None
        self.fit: PriorFit | None = None  # once the VAE is trained, if there is to be a prior

    @property
    def network(self) -> VAE:
        """What is evaluated, drawn and exported: the averaged weights, and the prior once it is being fitted."""
        return self.averaged if self.fit is None else self.fit.network

    def go(self, first_step: int, saved: Checkpoint | None = None) -> None:
        """Take the steps after `first_step` and draw the report. `saved`, if any, has been done before."""
        self.vae.train()
        if self.world.writes:
            self._begin(first_step, saved)
        signals = stop_signals(self.progress.stopping, insist=self.world.size == 1)
        with self._log(first_step) as log, signals as stop_requested:
            self._take_steps(first_step, log, stop_requested)
            if self.config.prior_steps:
                self._fit_prior(saved if first_step > self.config.steps else None, log, stop_requested)
        self.world.part()
        if self.world.writes:
            draw_report(self.run, self.network, self.config, self._latents()["kl"], self.device)

    def _log(self, first_step: int) -> AbstractContextManager[MetricsLog | None]:
        """The first process's log; it alone evaluates, draws and saves."""
        return MetricsLog(self.run, first_step, self.progress.record) if self.world.writes else nullcontext()

    def _take_steps(self, first_step: int, log: MetricsLog | None, stop_requested: Callable[[], int]) -> None:
        """All of the VAE's steps after `first_step`."""
        config, world = self.config, self.world
        order = batches(config.seed, len(self.data.train), config.batch_size, first_step)
        watch = Watch(self.run, self.vae.parameters(), config, self.device, world.writes)
        looks = config.log_every, config.evaluate_every, config.picture_every, config.checkpoint_every
        started = time.monotonic()
        for step in range(first_step + 1, config.steps + 1):
            with world.explained(f"at step {step}"):
                reading = self.stepper.gradients(step, next(order))
                watch.look(reading)
                self.stepper.apply(step)
                if config.ema:
                    update_average(self.averaged, self.vae, step, config.ema)
                if step == config.steps or any(step % every == 0 for every in looks):
                    watch.settle()
                if log:
                    self._look_at(step, reading, log, started)
                # After the evaluation, so that a signal that came during it counts.
                stopping = world.largest(stop_requested())
            if stopping:
                watch.settle()
            last = step == config.steps
            self._finish(step, last or bool(stopping), log)
            if last and log and (words := advice.overfitting(self.run, step)):
                self.progress.say(words)
            if stopping:
                raise StoppedError(self._how_to_go_on(step), stopping)

    def _look_at(self, step: int, reading: Reading, log: MetricsLog, started: float) -> None:
        """Log, evaluate and draw what is due after `step`; everything is after the last one."""
        config, last = self.config, step == self.config.steps
        if last or step % config.log_every == 0:
            log.add(step, "train", **vars(reading.losses), seconds=round(time.monotonic() - started, 3))
        if last or step % config.evaluate_every == 0:
            self._evaluate(step, log)
        if last or step % config.picture_every == 0:
            self._draw(step)

    def _draw(self, step: int) -> None:
        draw_reconstructions(self.network, self.data.validation, self.device, self._reconstructions(step))

    def _reconstructions(self, step: int) -> Path:
        return self.run / RECONSTRUCTIONS / f"step-{step:06d}.png"

    def _evaluate(self, step: int, log: MetricsLog) -> None:
        for split, losses in evaluate_splits(self.network, self.data, self.config, self.device).items():
            log.add(step, split, **vars(losses))

    def _fit_prior(self, saved: Checkpoint | None, log: MetricsLog | None, stop_requested: Callable[[], int]) -> None:
        """The steps after the VAE's.

        A run that is stopped has saved them, and is finished when the posteriors' variances are found, after the last.
        """
        config, world = self.config, self.world
        self.fit = fit = PriorFit(self.averaged, self.data.train, config, self.device, world)
        if saved is not None:
            saved.restore_prior(fit)
        started = time.monotonic()
        for step in range(saved.step + 1 if saved else config.steps + 1, config.total_steps + 1):
            with world.explained(f"at step {step}"):
                reading = fit.take_step(step - config.steps)
                stopping = world.largest(stop_requested())
            last = step == config.total_steps
            if log and (last or step % config.log_every == 0):
                log.add(step, "prior", **vars(reading), seconds=round(time.monotonic() - started, 3))
            self._finish(step, last or bool(stopping), log)
            if stopping:
                raise StoppedError(self._how_to_go_on(step), stopping)
        with world.explained("after the last step"):
            if not has_variances(fit.network):
                slow = ", which takes minutes" if self.data.train[0].size >= LARGE else ""
                self.progress.say(f"last step: measuring the encoder's variances{slow}")
                fit.fit_head(self.data.validation, stop_requested)
                if log and has_variances(fit.network):
                    self._evaluate(config.total_steps, log)
                    self._draw(config.total_steps)
                    log.flush()
                    self._save(config.total_steps)
                    if words := advice.overfitted_prior(self.run, config.steps):
                        self.progress.say(words)
            stopping = world.largest(stop_requested())
        if stopping:
            raise StoppedError(self._how_to_go_on(config.total_steps), stopping)

    def _finish(self, step: int, ends: bool, log: MetricsLog | None) -> None:
        """Save what has been done, if that is due or it ends here, and say that the step is done."""
        if log and (ends or step % self.config.checkpoint_every == 0):
            log.flush()
            self._save(step)
        self._done(step)

    def _done(self, step: int) -> None:
        """Say that a step is done, and once, where that is so, that fewer threads would be faster."""
        self.progress.step(step)
        if self.contention is not None and (better := self.contention.better_threads()) is not None:
            threads, run = self.contention.threads, quoted(self.run)
            self.progress.say(
                f"other processes keep the {threads} threads from running together, and each waits for the others; "
                f"fewer may be much faster: Ctrl-C, then vae-gen train --resume {run} --threads {better}"
            )
            self.contention = None

    def _how_to_go_on(self, step: int) -> str:
        run = quoted(self.run)
        if step == self.config.total_steps:
            return f"all {step} steps are saved; finish with --resume {run}"
        return f"step {step} of {self.config.total_steps} is saved; go on with --resume {run}"

    def _begin(self, first_step: int, saved: Checkpoint | None) -> None:
        LocalStore(str(self.run)).sweep((CONFIG, checkpoint.FILE_NAME, DIVERGED))  # what killed processes left
        # Before all else: from here on the run can be resumed, as it is configured now. A prior that goes on is not in
        # memory yet; its run has that from its next checkpoint on.
        if saved is None or (self.config != saved.config and first_step <= self.config.steps):
            self._save(first_step)
        about = {"config": self.config.as_dict(), "data": self.data.describe(), "packages": package_versions()}
        about |= {"source": dict(self.data.origin)} if self.data.origin else {}
        with whole_file(self.run / CONFIG) as partial:
            partial.write_text(json.dumps(about, indent=2) + "\n", "utf-8")
        when_free((self.run / DIVERGED).unlink, missing_ok=True)
        make_folder(self.run / RECONSTRUCTIONS)
        for path in (self.run / RECONSTRUCTIONS).glob("step-*.png"):
            step = path.stem.removeprefix("step-")
            if step.isdecimal() and int(step) > first_step:
                when_free(path.unlink)

    def _latents(self) -> dict[str, list[float]]:
        return latent_statistics(self.network, self.data.validation, self.device)

    def _save(self, step: int) -> None:
        checkpoint.save(
            self.run,
            self.vae,
            self.averaged,
            self.optimiser,
            self.fit,
            self.config,
            step=step,
            image_shape=self.data.image_shape,
            data=self.data.describe(),
            packages=package_versions(),
            latents=self._latents(),
        )


@contextmanager
def _alone(run: Path, world: World, way_out: str) -> Iterator[None]:
    """Within it no other process works on the run; raises OutputError, which names the way out, if one does."""
    with ExitStack() as held:
        if world.writes and run.is_dir():
            try:
                held.enter_context(LocalStore(str(run)).lock(checkpoint.FILE_NAME))
            except OutputError as error:
                raise OutputError(f"another process is training in {run}; {way_out}") from error
        yield


@contextmanager
def _output_errors(run: Path) -> Iterator[None]:
    """Turn the operating system's refusals into OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write to {error.filename or run}: {error.strerror or error}") from error


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn PyTorch's words for too little memory, of a GPU's or of the processors', into VaeGenError."""
    try:
        yield
    except RuntimeError as error:
        words = str(error)
        # A GPU's libraries have no class of their own for it.
        known = "DefaultCPUAllocator", "out of memory", "ALLOC_FAILED"
        if not (isinstance(error, torch.OutOfMemoryError) or any(word in words for word in known)):
            raise
        raise VaeGenError(
            "there is not enough memory for such steps; begin a run with a smaller --batch-size or --image-size, "
            f"or with --accumulate ({' '.join(words.split())[:200]})"
        ) from error
