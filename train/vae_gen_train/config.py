"""TrainConfig: everything that decides how a training run comes out."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from vae_gen.errors import UsageError

FILE_NAME = "config.json"  # in a run's directory

# Listed here, without what they name: the command's help must not load PyTorch.
OBJECTIVES = ("sse", "bce", "gaussian")
SCHEDULES = ("constant", "cosine")
PRECISIONS = ("fp32", "bf16")
ADVERSARIAL_TARGETS = ("images", "reconstructions")
MOST_LATENTS = 10**12  # more than any machine has; beyond, numbers of weights have no 64 bits
DENSE_VALUES = 40 * 40  # in larger images dense layers find too little that repeats
# What a checkpoint does not fix: these may be given when a run is resumed.
CHANGEABLE = ("steps", "prior_steps", "device", "threads", "checkpoint_every", "evaluate_every")
FOR_PICTURES = ("steps", "prior_steps", "evaluate_every", "picture_every")  # fewer of them for few pictures
CHOICES = {
    "objective": OBJECTIVES,
    "lr_schedule": SCHEDULES,
    "precision": PRECISIONS,
    "adversarial_target": ADVERSARIAL_TARGETS,
}


@dataclass(frozen=True)
class TrainConfig:
    """The whole configuration of a run. Raises UsageError when constructed with values that cannot work.

    A checkpoint may lack a field that has a default: the default is what was done before there was a choice.
    """

    preset: str
    network: str
    latent_dim: int
    batch_size: int  # images an optimiser step, over all processes and micro-batches
    lr: float  # Adam's learning rate, or the highest of its schedule
    steps: int  # optimiser steps of the VAE
    seed: int = 0
    device: str = "auto"
    threads: int | None = None  # processors to compute with; None becomes a number when the run begins
    evaluate_every: int = 1000  # steps between evaluations on the validation and test images
    checkpoint_every: int = 1000  # steps, the prior's too, between savings; neither of the two changes the weights
    picture_every: int = 200
    log_every: int = 50
    objective: str = "sse"  # one of OBJECTIVES; see objective.py
    beta: float = 1.0  # the KL divergence's weight
    kl_warmup: int = 0  # steps over which that weight rises from 0
    free_bits: float = 0.0  # nats a latent may use without a cost
    lr_warmup: int = 0  # steps over which the learning rate rises from 0
    lr_schedule: str = "constant"  # one of SCHEDULES; see schedule.py
    ema: float = 0.0  # decay of the averaged weights, a step; 0: none are kept
    clip_norm: float = 0.0  # the gradients' largest norm; 0: any
    weight_decay: float = 0.0  # of the layers not next to the latents, times the learning rate, a step; see step.py
    accumulate: int = 1  # micro-batches a step
    precision: str = "fp32"  # one of PRECISIONS
    processes: int = 1  # that share every batch; set when the run begins
    prior_steps: int = 0  # further steps, that fit a flow as the prior; 0: there is none
    flow_couplings: int = 8
    flow_width: int = 96  # of the hidden layers in each coupling
    adversarial_share: float = 0.55  # of prior_steps, that are against a discriminator
    adversarial_target: str = "images"  # one of ADVERSARIAL_TARGETS; with "images" the decoder learns too

    def __post_init__(self) -> None:
        positive = ("latent_dim", "batch_size", "steps", "evaluate_every", "checkpoint_every", "picture_every")
        more = ("log_every", "accumulate", "processes", "flow_couplings", "flow_width")
        for name in (*positive, *more):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("latent_dim", self.latent_dim <= MOST_LATENTS, f"at most {MOST_LATENTS:,}")
        for name in ("beta", "free_bits", "clip_norm", "weight_decay"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "a finite number, at least 0")
        for name in ("kl_warmup", "lr_warmup", "prior_steps"):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        for name, allowed in CHOICES.items():
            self._require(name, getattr(self, name) in allowed, f"one of {', '.join(allowed)}")
        self._require("adversarial_share", 0 <= self.adversarial_share <= 1, "from 0 to 1")
        self._require("ema", 0 <= self.ema < 1, "at least 0 and below 1, such as 0.999")
        if self.batch_size % (self.accumulate * self.processes):
            processes = f"{self.processes} process{'es' * (self.processes > 1)}"
            raise UsageError(
                f"batch-size is {self.batch_size}, which {processes} with accumulate {self.accumulate} cannot share "
                f"evenly; make it a multiple of {self.accumulate * self.processes}"
            )
        self._require("lr", 0 < self.lr < 1, "above 0 and below 1")
        self._require("weight_decay", self.lr * self.weight_decay < 1, f"below 1 / lr, which is {1 / self.lr:g}")
        self._require("threads", self.threads is None or self.threads >= 1, "at least 1")
        # Of a larger one torch's CPU generator would use 32 bits only.
        self._require("seed", 0 <= self.seed < 2**32, "at least 0 and below 2**32")
        if self.prior_steps and self.latent_dim < 2:
            raise UsageError("latent-dim is 1; a prior is fitted to 2 latents or more (--prior-steps 0 leaves it out)")

    @property
    def total_steps(self) -> int:
        """The VAE's steps, and the prior's after them."""
        return self.steps + self.prior_steps

    def _require(self, name: str, allowed: bool, what: str) -> None:
        if not allowed:
            raise UsageError(f"{name.replace('_', '-')} is {getattr(self, name)}; it must be {what}")

    @classmethod
    def from_preset(cls, preset: str, pictures: int | None = None, **overrides: Any) -> TrainConfig:
        """The preset of that name, with every override that is not None.

        So many `pictures` to train on may be fewer than the preset's steps are for: then there are fewer steps. They
        overfit sooner, and best was a number of steps that grows as their number to the power of 0.7
        (docs/training.md has the measurements). Raises UsageError.
        """
        if preset not in preset_names():
            raise UsageError(f"unknown preset {preset!r}; known: {', '.join(preset_names())}")
        given = {name: value for name, value in overrides.items() if value is not None}
        values = tomllib.loads(_preset_folder().joinpath(f"{preset}.toml").read_text("utf-8"))
        enough = values.pop("pictures", None)
        if enough is not None and pictures is not None and pictures < enough:
            warmup = given.get("lr_warmup", values["lr_warmup"])
            share = min(1, max((pictures / enough) ** 0.7, 2 * warmup / values["steps"]))
            for name in FOR_PICTURES:
                values[name] = math.ceil(share * values[name] / 100) * 100
        values |= given
        return cls(preset=preset, **values)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def suitable_preset(image_shape: tuple[int, int, int]) -> str:
    """The preset for images of that shape (channels, height, width) when nobody asked for one."""
    return "mlp" if math.prod(image_shape) <= DENSE_VALUES else "conv"


def preset_names() -> list[str]:
    """The presets that come with the package, one TOML file each."""
    names = (entry.name for entry in _preset_folder().iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def _preset_folder() -> resources.abc.Traversable:
    return resources.files("vae_gen_train") / "presets"
