"""A training run of `vae-gen train` as the source of a bundle."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from vae_gen.data.options import DataOptions
from vae_gen.files import as_text
from vae_gen.manifest import DECODER, ENCODER
from vae_gen.shell import quoted
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.config import FOR_PICTURES, TrainConfig
from vae_gen_train.metrics_log import read_metrics
from vae_gen_train.nets import VAE
from vae_gen_train.objective import OBJECTIVES
from vae_gen_train.prior import has_variances
from vae_gen_train.source import remembered

from vae_gen_export.sources.networks import Networks


def open_run(run: Path) -> Networks:
    """The networks of the newest checkpoint in `run`, and what the run says of them. Raises DataError."""
    checkpoint = Checkpoint.open(run)
    vae = checkpoint.load_network()
    config = checkpoint.config
    unfinished = _unfinished(checkpoint, vae)
    return Networks(
        parts={ENCODER: vae.encoder, DECODER: vae.decoder},
        latent_dim=config.latent_dim,
        image_shape=checkpoint.image_shape,
        latent_mean=tuple(checkpoint.latents["mean"]),
        latent_std=tuple(checkpoint.latents["std"]),
        latent_kl=tuple(checkpoint.latents["kl"]),
        training={
            "steps": checkpoint.step,
            **({"unfinished": unfinished} if unfinished else {}),
            "config": config.as_dict(),
            "data": checkpoint.data,
            "packages": checkpoint.packages,
        },
        metrics={
            "command": _command(config, checkpoint.data["train_images"], *remembered(run)),
            **_metrics(run, checkpoint.step, config),
        },
        note=f"{run} is not finished: {unfinished}; go on with vae-gen train --resume {quoted(run)}"
        if unfinished
        else "",
    )


def _unfinished(checkpoint: Checkpoint, vae: VAE) -> str:
    """How far the run came, if it is not finished."""
    step, steps = checkpoint.step, checkpoint.config.total_steps
    unknown = checkpoint.has_prior and not has_variances(vae)
    if step == steps and not unknown:
        return ""
    but = ", and its encoder says log_var = 0 everywhere, as the variances are found last" if unknown else ""
    return f"step {step:,} of {steps:,}{but}"


def _command(config: TrainConfig, pictures: int, data: Path | None, data_options: DataOptions) -> str:
    """The command line that repeats the run on so many pictures, without where somebody keeps their files."""
    preset = TrainConfig.from_preset(config.preset).as_dict()
    for_so_many = TrainConfig.from_preset(config.preset, pictures, lr_warmup=config.lr_warmup).as_dict()
    preset |= {name: for_so_many[name] for name in FOR_PICTURES}
    left_out = {"preset", "network", "processes", "evaluate_every", "checkpoint_every", "picture_every", "log_every"}
    changed = {
        name: value for name, value in config.as_dict().items() if name not in left_out and value != preset[name]
    }
    options = ["--data", as_text(data.name)] if data is not None else []
    options += data_options.as_options
    options += [word for name, value in changed.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    processes = config.processes
    program = f"torchrun --nproc-per-node {processes} -m vae_gen_train" if processes > 1 else "vae-gen train"
    return f"{program} {shlex.join(['--preset', config.preset, *options])}"


def _metrics(run: Path, step: int, config: TrainConfig) -> dict[str, Any]:
    """What the run measured on whole splits, with PyTorch as it went, after that very step; nothing if it did not."""
    unit = OBJECTIVES[config.objective].unit
    total = "their sum" if config.beta == 1 else f"reconstruction + {config.beta:g} kl"
    units = f"means per image in nats; reconstruction: {unit}, one posterior draw; total: {total}"
    names = ("step", "reconstruction", "kl", "total", "sse")
    found = {}
    for record in read_metrics(run):
        if record["step"] == step and record["split"] in ("validation", "test"):
            found[record["split"]] = {name: record[name] for name in names if name in record}
    return {"units": units, **found} if found else {}
