"""vae-gen train"""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from vae_gen.cli import messages, options
from vae_gen.errors import MissingExtraError, UsageError
from vae_gen.shell import quoted

from vae_gen_train.config import (
    ADVERSARIAL_TARGETS,
    CHANGEABLE,
    OBJECTIVES,
    PRECISIONS,
    SCHEDULES,
    TrainConfig,
    preset_names,
    suitable_preset,
)

if TYPE_CHECKING:
    from vae_gen.data.datasets import DataSet
    from vae_gen.data.tones import Tones
    from vae_gen.images import ImageShape

    from vae_gen_train.distributed import World
    from vae_gen_train.metrics_log import Record
    from vae_gen_train.progress import Progress

OF_THE_PRIOR = ("flow_couplings", "flow_width", "adversarial_share", "adversarial_target")


@click.command()
@click.option(
    "--preset",
    type=click.Choice(preset_names()),
    help="Network and settings to begin with. Default: mlp for small pictures, as MNIST's are, else conv.",
)
@click.option(
    "--data",
    type=options.PathType(),
    help="A folder or a zip or tar archive of pictures, an .npy, .npz or IDX file, or a folder of IDX files named as "
    "MNIST's are. Default: MNIST, downloaded once.",
)
@options.image_size_option
@options.channels_option
@options.skip_bad_option
@options.tones_options
@click.option("--out", type=options.PathType(), help="The run's directory.  [default: runs/PRESET]")
@click.option(
    "--resume",
    "resumed",
    type=options.PathType(),
    help="Continue the run in this directory, as it was begun. --steps (in all), --prior-steps (another number fits "
    "the prior anew), --device, --threads, --checkpoint-every and --evaluate-every may be given with it.",
)
@click.option("--steps", type=int, help="Optimiser steps, without those of the prior.")
@click.option("--batch-size", type=int, help="Images a step, of all processes together.")
@click.option(
    "--accumulate",
    type=int,
    help="Parts of a batch that are computed one after the other, for less memory.",
)
@click.option("--lr", type=float, help="Learning rate.")
@click.option("--lr-warmup", type=int, help="Steps over which the learning rate rises from 0.")
@click.option("--lr-schedule", type=click.Choice(SCHEDULES), help="constant, or cosine: falling to 0 at the last step.")
@click.option("--clip-norm", type=float, help="Clip the gradients to this norm; 0: no clipping.")
@click.option("--weight-decay", type=float, help="How fast AdamW shrinks the weights; 0: not at all.")
@click.option("--ema", type=float, help="Decay of the averaged weights, such as 0.999; 0: do without.")
@click.option(
    "--objective",
    type=click.Choice(OBJECTIVES),
    help="How a reconstruction is compared with its image. sse: squared errors. bce: binary cross-entropy. gaussian: "
    "squared errors under the variance that fits them best.",
)
@click.option("--beta", type=float, help="Weight of the KL divergence.")
@click.option("--kl-warmup", type=int, help="Steps over which that weight rises from 0.")
@click.option("--free-bits", type=float, help="Nats of KL divergence that are free for each latent.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Number format of the VAE's steps; bf16 is faster where the processor supports it.",
)
@click.option("--latent-dim", type=int, help="Number of latents.")
@click.option(
    "--prior-steps",
    type=int,
    help="Further steps, after --steps: they fit a flow to the latents, so that noise decodes well. 0: none.",
)
@click.option("--flow-couplings", type=int, help="How many layers that flow has.")
@click.option("--flow-width", type=int, help="How wide the networks in its layers are.")
@click.option(
    "--adversarial-share",
    type=float,
    help="Share of the prior's steps, 0 to 1, that are against a discriminator.",
)
@click.option(
    "--adversarial-target",
    type=click.Choice(ADVERSARIAL_TARGETS),
    help="What the discriminator compares samples with. images: the decoder learns too. reconstructions: for networks "
    "whose reconstructions are soft.",
)
@click.option("--seed", type=int, help="Decides the first weights, the order of the images and all noise.")
@click.option("--device", help="auto, cpu, cuda, cuda:1, mps, ...; auto takes a CUDA GPU where there is one.")
@options.threads_option
@click.option(
    "--checkpoint-every", type=int, help="Steps between checkpoints; a crash loses at most so many. Default: 1000."
)
@click.option(
    "--evaluate-every",
    type=int,
    help="Steps of the VAE between evaluations on validation and test images. Default: 1000; of few pictures, fewer.",
)
@click.option("--tensorboard", is_flag=True, help="Write the losses for TensorBoard too.")
@options.quiet_option
def train(
    preset: str | None,
    data: Path | None,
    out: Path | None,
    resumed: Path | None,
    tensorboard: bool,
    quiet: bool,
    image_size: tuple[int, int] | None,
    channels: int | None,
    skip_bad: bool,
    tones: Tones,
    **settings: Any,
) -> None:
    """Train a model.

    Options that are not given have the preset's values. With fewer than 40,000 pictures, mlp and conv take fewer
    steps. The run's directory gets the checkpoint, a log of the losses (metrics.jsonl), pictures of
    reconstructions, and at the end the loss curve, samples and traversals. Ctrl-C saves, and --resume goes on as if
    nothing had happened. torchrun shares every batch among several processes.

    \b
    vae-gen train --preset notebook --out runs/notebook
    vae-gen train --data photos/ --image-size 64 --out runs/photos
    vae-gen train --resume runs/notebook
    torchrun --nproc-per-node 2 -m vae_gen_train --out runs/two
    """
    if resumed is not None:
        _check_resumed_options(resumed)
    try:
        from tqdm import tqdm
        from vae_gen.data.options import DataOptions

        from vae_gen_train import advice, source, trainer
        from vae_gen_train.allocation import physical_memory
        from vae_gen_train.checkpoint import Checkpoint
        from vae_gen_train.distributed import World
    except ModuleNotFoundError as error:
        raise MissingExtraError("vae-gen train", error.name or "torch", "train") from error

    data_options = DataOptions(image_size, channels, skip_bad, **vars(tones))

    world = World.from_environment()
    quiet = quiet or not world.writes
    changes = {name: settings[name] for name in CHANGEABLE if settings[name] is not None}
    saved = None if resumed is None else Checkpoint.open(resumed)

    def new_config(preset: str, pictures: int | None = None) -> TrainConfig:
        config = TrainConfig.from_preset(preset, pictures, processes=world.size, **settings)
        without_effect = [name for name in OF_THE_PRIOR if settings[name] is not None and not config.prior_steps]
        if without_effect:
            option = "--" + without_effect[0].replace("_", "-")
            raise UsageError(f"{option} is for the prior, and prior-steps is 0; give --prior-steps too")
        if settings["adversarial_target"] is not None and not config.adversarial_share:
            raise UsageError("--adversarial-target is for the steps against a discriminator, and there are none")
        return config

    def configured(preset: str, pictures: int | None = None) -> TrainConfig:
        return new_config(preset, pictures) if saved is None else trainer.resumed_config(saved, changes, world)

    # What is wrong with the options is said before anything is downloaded or decoded.
    config = configured(preset or "mlp")
    device = world.select_device(config.device)
    if saved is None and image_size is not None:
        _check_size(preset, (channels or 1, *image_size), channels is not None, new_config)
    with world.joined(device):
        with world.in_turns():
            # Here, so that torchrun's other processes do not wait in vain for the one that looks.
            if saved is None and world.writes and (place := out or (preset and Path("runs") / preset)):
                trainer.check_new(place)
            images = source.load(data, data_options, resumed, lambda message: messages.say(message, quiet))
        config = configured(preset or suitable_preset(images.image_shape), len(images.train))
        run = resumed or out or Path("runs") / config.preset
        record = _tensorboard(run) if tensorboard else None
        name = str(data or (images.origin or {}).get("path") or "MNIST")
        first_step = 0 if saved is None else trainer.first_step(saved, config)
        told = [
            _start(images, name, config, run, device.type, world),
            advice.sameness(images.train) if saved is None else "",
            # A run that goes on can take no smaller steps; a GPU's memory is another.
            advice.memory(
                config, images.image_shape, physical_memory() if saved is None and device.type == "cpu" else math.inf
            ),
            "" if saved is None else _going_on(saved.config, config, first_step, run, world, changes),
        ]
        for words in filter(None, told):
            messages.say(words, quiet)
        with tqdm(
            total=config.total_steps,
            initial=first_step,
            file=sys.stderr,
            unit="step",
            miniters=1,
            mininterval=0.5,
            disable=quiet or not sys.stderr.isatty(),
        ) as bar:
            progress = _show(bar, quiet, world.size == 1, record)
            if resumed is None:
                trainer.train(images, run, config, progress, world)
            else:
                trainer.resume(images, run, **changes, progress=progress, world=world)
    messages.say(f"the run is in {run}; next: vae-gen export {quoted(run)} --out bundles/NAME", quiet)


def _check_size(
    preset: str | None, image_shape: ImageShape, channels_known: bool, configured: Callable[[str], TrainConfig]
) -> None:
    """Raise UsageError if the network that images of that shape will get cannot be, as far as that is known."""
    from vae_gen_train.nets import check_size

    likely = preset or suitable_preset(image_shape)
    if preset or channels_known or likely == "conv":  # what is small in grey may be large in colour
        config = configured(likely)
        check_size(config.network, image_shape, config.latent_dim)


def _start(images: DataSet, name: str, config: TrainConfig, run: Path, device: str, world: World) -> str:
    """The line that says what begins."""
    height, width = images.image_shape[1:]
    threads = messages.count(world.threads(config.threads), "thread")
    where = f"{device}, {threads}" if world.size == 1 else f"{world.size} processes on {device}, {threads} each"
    steps = f"{config.steps:,} steps" + (f" and {config.prior_steps:,} of the prior" if config.prior_steps else "")
    return f"{name}: {len(images.train):,} pictures of {height}x{width} to train on; {where}; {steps} into {run}"


def _going_on(
    before: TrainConfig, config: TrainConfig, first_step: int, run: Path, world: World, changes: dict[str, Any]
) -> str:
    """What to tell of a resumed run: that it is finished, or keeps its threads where a new one would have others."""
    if first_step == config.total_steps:
        more = "another number of --prior-steps fits its prior anew" if config.prior_steps else "--steps gives it more"
        return f"all {first_step:,} steps of {run} are done already; {more}"
    kept, usable = world.threads(before.threads), world.threads(None)
    if kept == usable or "threads" in changes:
        return ""
    return (
        f"{run} goes on with {messages.count(kept, 'thread')}, as before; this process may use "
        f"{messages.count(usable, 'processor')}: --threads {usable} takes as many, and rounds otherwise"
    )


def _tensorboard(run: Path) -> Callable[[Record], None]:
    try:
        from vae_gen_train.tensorboard import TensorBoard
    except ModuleNotFoundError as error:
        raise MissingExtraError("--tensorboard", error.name or "tensorboard", "tensorboard", "TensorBoard") from error
    return TensorBoard(run).record


def _check_resumed_options(run: Path) -> None:
    """Raise UsageError for an option that a run in progress has decided already."""
    context = click.get_current_context()
    free = {*CHANGEABLE, "resumed", "data", "skip_bad", "quiet", "tensorboard"}
    for name in [name for name in context.params if name not in free]:
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} cannot be given with --resume: {run} goes on as it began")


def _show(bar: Any, quiet: bool, alone: bool, tell: Callable[[Record], None] | None) -> Progress:
    """The losses beside the bar, a line for each evaluation, and a word as soon as a signal arrives."""
    from vae_gen_train.progress import Progress

    def record(record: Record) -> None:
        if tell is not None:
            tell(record)
        names = ("reconstruction", "kl", "total", "nll", "discriminator")
        losses = {name: f"{record[name]:.3f}" for name in names if record.get(name) is not None}
        if record["split"] in ("train", "prior"):
            bar.set_postfix(losses, refresh=False)
        if record["split"] in ("validation", "test") or (record["split"] == "prior" and record["step"] % 1000 == 0):
            text = ", ".join(f"{name} {value}" for name, value in losses.items())
            say(f"step {record['step']:6}  {record['split']:10}  {text}")

    def stopping(number: int) -> None:
        again = "; press Ctrl-C again to quit without saving" if number == signal.SIGINT and alone else ""
        if not quiet:  # past Python's buffer, which may be in the midst of another line
            os.write(2, f"\nstopping after this step{again}\n".encode())

    def say(text: str) -> None:
        if not quiet:
            bar.write(text, file=sys.stderr)

    return Progress(record, lambda step: bar.update(step - bar.n), say, stopping)
