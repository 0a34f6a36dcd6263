"""vae-gen train"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from vae_gen.cli import options
from vae_gen.errors import MissingExtraError, UsageError

from vae_gen_train.config import TrainConfig, preset_names

if TYPE_CHECKING:
    from vae_gen.datasets import DataSet

    from vae_gen_train.metrics_log import Progress, Record


@click.command()
@click.option(
    "--preset",
    type=click.Choice(preset_names()),
    default="notebook",
    show_default=True,
    help="Network and settings to begin with.",
)
@click.option(
    "--data",
    type=options.PathType(),
    help="A folder of pictures, an .npy, .npz or IDX file, or a folder of IDX files named as MNIST's are. "
    "Default: MNIST, downloaded once.",
)
@options.image_size_option
@options.channels_option
@options.skip_bad_option
@options.invert_option
@click.option("--out", type=options.PathType(), help="The run's directory.  [default: runs/PRESET]")
@click.option("--resume", "resumed", type=options.PathType(), help="Continue the run in this directory.")
@click.option("--steps", type=int, help="Optimiser steps.")
@click.option("--batch-size", type=int, help="Images a step.")
@click.option("--lr", type=float, help="Learning rate.")
@click.option("--latent-dim", type=int, help="Number of latents.")
@click.option("--seed", type=int, help="Decides the first weights, the order of the images and all noise.")
@click.option("--device", help="auto, cpu, cuda, ...; auto takes a GPU where there is one.")
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Processors to use. Default: all that this process may.",
)
@options.quiet_option
def train(
    preset: str,
    data: Path | None,
    out: Path | None,
    resumed: Path | None,
    quiet: bool,
    image_size: tuple[int, int] | None,
    channels: int | None,
    skip_bad: bool,
    invert: bool,
    **settings: Any,
) -> None:
    """Train a model.

    Options that are not given are the preset's. The run's directory gets the checkpoint, a log of the losses
    (metrics.jsonl), pictures of reconstructions, and at the end the loss curve and samples. Ctrl-C saves, and
    --resume goes on as if nothing had happened.

    \b
    vae-gen train --preset notebook --out runs/notebook
    vae-gen train --data photos/ --image-size 64 --out runs/photos
    vae-gen train --resume runs/notebook
    """
    if resumed is not None:
        _check_resumed_options(resumed)
    try:
        from tqdm import tqdm
        from vae_gen.data_options import DataOptions

        from vae_gen_train import source, trainer
        from vae_gen_train.checkpoint import Checkpoint
    except ModuleNotFoundError as error:
        raise MissingExtraError("vae-gen train", error.name or "torch", "train") from error

    data_options = DataOptions(image_size, channels, skip_bad, invert)

    def load_data() -> DataSet:
        return source.load(data, data_options, resumed, notify=lambda message: options.say(message, quiet))

    hide = quiet or not sys.stderr.isatty()
    if resumed is None:
        run = out or Path("runs") / preset
        config = TrainConfig.from_preset(preset, **settings)
        trainer.select_device(config.device)  # before anything is downloaded
        images = load_data()
        with tqdm(total=config.steps, file=sys.stderr, unit="step", disable=hide) as bar:
            trainer.train(images, run, config, _show(bar, quiet))
    else:
        run = resumed
        saved = Checkpoint.open(run)
        images = load_data()
        steps = settings["steps"] or saved.config.steps
        with tqdm(total=steps, initial=saved.step, file=sys.stderr, unit="step", disable=hide) as bar:
            changes = {name: settings[name] for name in ("steps", "device", "threads")}
            trainer.resume(images, run, **changes, progress=_show(bar, quiet))
    options.say(f"the run is in {run}; next: vae-gen export {run} --out bundles/NAME", quiet)


def _check_resumed_options(run: Path) -> None:
    """Raise UsageError for an option that a run in progress has decided already."""
    context = click.get_current_context()
    for name in ("preset", "out", "batch_size", "lr", "latent_dim", "seed", "image_size", "channels", "invert"):
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} cannot be given with --resume: {run} goes on as it began")


def _show(bar: Any, quiet: bool) -> Progress:
    """The losses beside the bar, and a line for each evaluation."""

    def show(record: Record) -> None:
        losses = {name: f"{record[name]:.2f}" for name in ("reconstruction", "kl", "total")}
        if record["split"] == "train":
            bar.set_postfix(losses, refresh=False)
            bar.update(record["step"] - bar.n)
        elif not quiet:
            text = ", ".join(f"{name} {value}" for name, value in losses.items())
            bar.write(f"step {record['step']:6}  {record['split']:10}  {text}", file=sys.stderr)

    return show
