"""TrainConfig: everything that decides how a training run comes out."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from vae_gen.errors import UsageError


@dataclass(frozen=True)
class TrainConfig:
    """The whole configuration of a run. Raises UsageError when constructed with values that cannot work."""

    preset: str
    network: str
    latent_dim: int
    batch_size: int
    lr: float  # Adam's learning rate
    steps: int  # optimiser steps in all
    seed: int = 0
    device: str = "auto"
    threads: int | None = None  # processors to compute with; None becomes a number when the run begins
    evaluate_every: int = 1000  # steps between evaluations on the validation and test images
    checkpoint_every: int = 1000
    picture_every: int = 200
    log_every: int = 50

    def __post_init__(self) -> None:
        positive = ("latent_dim", "batch_size", "steps", "evaluate_every", "checkpoint_every", "picture_every")
        for name in (*positive, "log_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name.replace('_', '-')} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.lr < 1:
            raise UsageError(f"lr is {self.lr}; it must be above 0 and below 1")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads is {self.threads}; it must be at least 1")
        if not 0 <= self.seed < 2**32:  # of a larger one torch's CPU generator would use 32 bits only
            raise UsageError(f"seed is {self.seed}; it must be at least 0 and below 2**32")

    @classmethod
    def from_preset(cls, preset: str, **overrides: Any) -> TrainConfig:
        """The preset of that name, with every override that is not None. Raises UsageError."""
        if preset not in preset_names():
            raise UsageError(f"unknown preset {preset!r}; known: {', '.join(preset_names())}")
        values = tomllib.loads(_preset_folder().joinpath(f"{preset}.toml").read_text("utf-8"))
        values |= {name: value for name, value in overrides.items() if value is not None}
        return cls(preset=preset, **values)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def preset_names() -> list[str]:
    """The presets that come with the package, one TOML file each."""
    names = (entry.name for entry in _preset_folder().iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def _preset_folder() -> resources.abc.Traversable:
    return resources.files("vae_gen_train") / "presets"
