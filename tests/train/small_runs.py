"""What tests of training share: a run of a few steps, and how to tell whether two are the same."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from vae_gen_train.config import TrainConfig
from vae_gen_train.metrics_log import read_metrics

SMALL = {"steps": 12, "batch_size": 16, "latent_dim": 3, "lr": 1e-3}


def config(preset: str = "notebook-relu", **changes: object) -> TrainConfig:
    every = {"log_every": 1, "evaluate_every": 4, "checkpoint_every": 5, "picture_every": 6}
    return TrainConfig.from_preset(preset, **SMALL | every | changes)


def tensors(run: Path, kind: str = "network.") -> dict[str, torch.Tensor]:
    found = load_file(run / "checkpoint.safetensors")
    return {name.removeprefix(kind): tensor for name, tensor in found.items() if name.startswith(kind)}


def comparable(run: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, object]]]:
    """All of a run that must not depend on how often it was stopped."""
    records = [{key: value for key, value in record.items() if key != "seconds"} for record in read_metrics(run)]
    return load_file(run / "checkpoint.safetensors"), records


def assert_same_run(one: Path, other: Path) -> None:
    found, records = comparable(one)
    expected, expected_records = comparable(other)
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    assert records == expected_records


class CrashError(Exception):
    """A crash at a moment that a test chooses."""
