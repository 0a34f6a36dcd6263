"""Losses and gradients that are not finite: the run ends, says where, and saves nothing of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from vae_gen.data.datasets import DataSet
from vae_gen.errors import VaeGenError
from vae_gen_train import step as step_module
from vae_gen_train import trainer
from vae_gen_train.batches import batches
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.metrics_log import read_metrics
from vae_gen_train.step import Stepper

from tests.train.small_runs import config, tensors


@pytest.mark.parametrize(
    ("settings", "warmup"), [({"steps": 2000}, 1000), ({"steps": 300, "objective": "bce"}, 150)], ids=["sse", "bce"]
)
def test_losses_that_are_not_finite_end_the_run(
    data: DataSet, tmp_path: Path, settings: dict[str, object], warmup: int
) -> None:
    advice = rf"training diverged at step \d+: .*--lr below 0\.9, with --lr-warmup {warmup}, or"
    with pytest.raises(VaeGenError, match=advice):
        trainer.train(data, tmp_path / "run", config(lr=0.9, checkpoint_every=1, **settings))
    assert all(tensor.isfinite().all() for tensor in tensors(tmp_path / "run").values())
    assert all(np.isfinite(record["total"]) for record in read_metrics(tmp_path / "run"))


def spoil(monkeypatch: pytest.MonkeyPatch, at: int, how: Callable[[Stepper], None]) -> None:
    """Do something to a step's gradients after they were computed."""
    original = Stepper.gradients

    def spoiled(self: Stepper, step: int, indices: np.ndarray) -> step_module.Reading:
        reading = original(self, step, indices)
        if step == at:
            how(self)
        return reading

    monkeypatch.setattr(Stepper, "gradients", spoiled)


def images_of_step(data: DataSet, step: int) -> list[int]:
    return next(islice(batches(0, len(data.train), 16, 0), step - 1, None)).tolist()


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("every", [{}, {"log_every": 100, "clip_norm": 1.0, "accumulate": 2}], ids=str)
def test_a_loss_that_is_not_finite_is_told_with_its_step_and_images(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: dict[str, object]
) -> None:
    culprit = images_of_step(data, 7)[5]  # in no earlier batch of this epoch
    to_float = step_module.to_float
    chosen = data.train[culprit]

    def poisoned(images: np.ndarray, device: torch.device) -> torch.Tensor:
        batch = to_float(images, device)
        batch[[bool((image == chosen).all()) for image in images]] = torch.nan
        return batch

    monkeypatch.setattr(step_module, "to_float", poisoned)
    with pytest.raises(VaeGenError, match="training diverged at step 7: reconstruction nan") as raised:
        trainer.train(data, tmp_path / "run", config("notebook", threads=1, checkpoint_every=3, **every))
    assert f"training images {', '.join(map(str, images_of_step(data, 7)[:8]))}, ..." in str(raised.value)
    found = json.loads((tmp_path / "run/diverged.json").read_text())
    assert (found["step"], found["images"]) == (7, images_of_step(data, 7))
    assert Checkpoint.open(tmp_path / "run").step == 6
    assert all(tensor.isfinite().all() for tensor in tensors(tmp_path / "run").values())

    monkeypatch.undo()
    trainer.resume(data, tmp_path / "run")
    assert not (tmp_path / "run/diverged.json").exists()


def make_infinite(made: Stepper) -> None:
    assert made.parameters[0].grad is not None
    made.parameters[0].grad[0, 0] = torch.inf


@pytest.mark.parametrize("checkpoint_every", [3, 100])
def test_gradients_that_are_not_finite_are_found_before_they_are_saved(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_every: int
) -> None:
    spoil(monkeypatch, 3, make_infinite)
    with pytest.raises(VaeGenError, match="diverged at step 3: its gradients made the weights infinite"):
        trainer.train(data, tmp_path / "run", config("notebook", threads=1, checkpoint_every=checkpoint_every))
    assert json.loads((tmp_path / "run/diverged.json").read_text())["images"] == images_of_step(data, 3)
    assert Checkpoint.open(tmp_path / "run").step == 0


@pytest.mark.parametrize("look", ["evaluate_every", "picture_every"])
def test_nothing_is_measured_or_drawn_of_weights_that_are_not_finite(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    spoil(monkeypatch, 3, make_infinite)
    rarely = dict.fromkeys(("log_every", "evaluate_every", "picture_every", "checkpoint_every"), 100)
    with pytest.raises(VaeGenError, match="diverged at step 3: its gradients made the weights infinite"):
        trainer.train(data, tmp_path / "run", config("notebook", threads=1, **rarely | {look: 3}))
    assert (tmp_path / "run/metrics.jsonl").read_text() == ""
    assert list((tmp_path / "run/reconstructions").iterdir()) == []


def test_a_gradient_norm_that_is_not_finite_ends_the_run(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norm = torch.nn.utils.get_total_norm
    norms = iter(range(1, 100))
    monkeypatch.setattr(
        torch.nn.utils, "get_total_norm", lambda gradients: norm(gradients) * (torch.inf if next(norms) == 2 else 1)
    )
    with pytest.raises(VaeGenError, match=r"diverged at step 2: reconstruction .*, gradient norm inf"):
        trainer.train(data, tmp_path / "run", config("notebook", threads=1, clip_norm=1.0))
