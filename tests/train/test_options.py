"""What each option of training changes, against the formula that it stands for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, load_file, save_file
from torch import nn
from vae_gen.cli import main
from vae_gen.data.datasets import DataSet
from vae_gen.errors import UsageError
from vae_gen_train import trainer
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.config import TrainConfig
from vae_gen_train.distributed import ALONE
from vae_gen_train.evaluation import evaluate
from vae_gen_train.metrics_log import read_metrics
from vae_gen_train.nets import build
from vae_gen_train.progress import Progress
from vae_gen_train.step import Stepper, adam

from tests.train.small_runs import CrashError, assert_same_run, tensors
from tests.train.small_runs import config as small_config

CPU = torch.device("cpu")
EVERYTHING = {
    "objective": "gaussian",
    "beta": 0.5,
    "kl_warmup": 5,
    "free_bits": 0.1,
    "lr_warmup": 3,
    "lr_schedule": "cosine",
    "ema": 0.9,
    "clip_norm": 10.0,
    "weight_decay": 0.3,
    "accumulate": 2,
}


def config(preset: str = "notebook", **changes: object) -> TrainConfig:
    return small_config(preset, **{"threads": 1} | changes)


def differences(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def stepper(data: DataSet, network: str = "notebook", **changes: object) -> Stepper:
    settings = config(network, **changes)
    torch.manual_seed(0)
    vae = build(network, data.image_shape, 3)
    return Stepper(vae, adam(vae, settings), data.train, settings, CPU, ALONE)


def gradients(data: DataSet, **changes: object) -> torch.Tensor:
    made = stepper(data, **changes)
    made.gradients(1, np.arange(16))
    return torch.cat([parameter.grad.flatten() for parameter in made.parameters if parameter.grad is not None])


@pytest.mark.parametrize(
    "change",
    [
        *({"objective": name} for name in ("bce", "gaussian")),
        {"beta": 2.0},
        {"kl_warmup": 10},
        {"free_bits": 1.0},
        {"clip_norm": 0.1},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_what_changes_the_gradients(data: DataSet, change: dict[str, object]) -> None:
    assert not torch.equal(gradients(data), gradients(data, **change))


@pytest.mark.usefixtures("no_report")
def test_objectives_are_logged_as_they_are_minimised_and_evaluated_in_full(data: DataSet, tmp_path: Path) -> None:
    settings = config("notebook", objective="gaussian", beta=3.0, kl_warmup=6, free_bits=50.0, steps=4)
    trainer.train(data, tmp_path / "run", settings)
    records = read_metrics(tmp_path / "run")
    for record in records:
        # 12x8 values an image; the variance is that of the batch, or of the split.
        gaussian = 48 * (math.log(2 * math.pi * record["sse"] / 96) + 1)
        assert record["reconstruction"] == pytest.approx(gaussian, rel=1e-5)
        # No latent has 50 nats, so that each of the 3 costs that many.
        penalty = 3 * min(1, record["step"] / 6) * 3 * 50 if record["split"] == "train" else 3 * record["kl"]
        assert record["total"] == pytest.approx(record["reconstruction"] + penalty, rel=1e-5)
    assert {record["split"] for record in records} == {"train", "validation", "test"}


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    "objective",
    # Of these free bits, in some parts a latent has more and in all of the batch less.
    [{"objective": "sse"}, {"objective": "gaussian"}, {"free_bits": 0.00075, "beta": 1e4}],
    ids=str,
)
def test_micro_batches_are_one_batch_to_rounding(data: DataSet, tmp_path: Path, objective: dict[str, object]) -> None:
    for parts in (1, 2, 4):
        settings = config("notebook", steps=1, accumulate=parts, lr=1e-5, **objective)
        trainer.train(data, tmp_path / str(parts), settings)
    one = tensors(tmp_path / "1", "optimiser.")
    for parts in ("2", "4"):
        # Adam's first moment is a tenth of the gradient, which is what must agree.
        other = tensors(tmp_path / parts, "optimiser.")
        for name in one:
            torch.testing.assert_close(other[name], one[name], rtol=1e-3, atol=1e-5)
        records = zip(read_metrics(tmp_path / parts), read_metrics(tmp_path / "1"), strict=True)
        for record, expected in records:
            assert record["total"] == pytest.approx(expected["total"], rel=1e-5)
    assert not all(torch.equal(tensors(tmp_path / "2", "optimiser.")[name], one[name]) for name in one)


def test_micro_batches_of_dropout_are_the_same_in_both_passes(data: DataSet) -> None:
    """The means that the objective is a function of are those of the very parts that are propagated back."""
    made = stepper(data, "notebook-relu", accumulate=4, objective="gaussian", free_bits=0.05)
    means = made._means(1, np.arange(16))
    seen: list[list[torch.Tensor]] = []
    for rows, noise in made._shares(1, np.arange(16)):
        seen.append([])
        made._terms(1, rows, noise, lambda mean: seen[-1].append(mean.detach()) or mean)
    assert len(means) == len(seen[0]) == 3
    for mean, *parts in zip(means, *seen, strict=True):
        torch.testing.assert_close(mean, torch.stack(parts).mean(0))


def test_bce_in_bf16_has_gradients_where_pixels_are_almost_white(data: DataSet) -> None:
    """At a logit of 7 the gradient of a grey pixel, 0.999 - 0.5, is half; in bfloat16 the sigmoid is 1, and it is 0."""
    for network in ("notebook", "conv", "mlp"):
        made = stepper(data, network, objective="bce", precision="bf16", accumulate=1)
        *_, last = [layer for layer in made.network.decoder.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
        with torch.no_grad():
            last.weight.zero_()
            last.bias.fill_(7.0)
        terms = made._terms(1, np.arange(16), None, lambda mean: mean)
        terms.total.backward()
        image = torch.from_numpy(data.train[:16] / 255.0)
        values = image[0].numel()
        probability = torch.sigmoid(torch.tensor(7.0))
        expected = -(image * probability.log() + (1 - image) * (1 - probability).log()).sum((1, 2, 3)).mean()
        assert terms.reconstruction.item() == pytest.approx(expected.item(), rel=1e-4)
        slope = (probability - image).sum().item() / 16
        assert last.bias.grad.sum().item() == pytest.approx(slope, rel=1e-2)
        assert slope > 0.2 * values


def test_gradients_are_clipped_to_the_norm_and_keep_their_direction(data: DataSet) -> None:
    whole, clipped = gradients(data), gradients(data, clip_norm=0.5)
    assert whole.norm() > 1
    assert clipped.norm().item() == pytest.approx(0.5, rel=1e-4)
    torch.testing.assert_close(clipped, whole * (0.5 / whole.norm()), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(gradients(data, clip_norm=1e6), whole, rtol=0, atol=0)


def test_the_learning_rate_is_the_schedules(data: DataSet) -> None:
    made = stepper(data, steps=4, lr_warmup=2, lr_schedule="cosine", lr=1e-3)
    rates = []
    for step in range(1, 5):
        before = [parameter.detach().clone() for parameter in made.parameters]
        made.gradients(step, np.arange(16))
        made.apply(step)
        # Adam's first step moves every weight by the learning rate, or not at all.
        moved = [(p.detach() - b).abs().max().item() for p, b in zip(made.parameters, before, strict=True)]
        rates.append(max(moved))
    assert rates[0] == pytest.approx(0.5e-3, rel=1e-3)
    assert rates[3] == 0


@pytest.mark.parametrize(
    ("network", "decaying"),
    [
        ("mlp", {"encoder.features": [1, 3], "decoder": [2, 4]}),
        ("notebook", {"encoder.features": [0, 3, 6], "decoder": [2, 5, 8, 11, 14]}),
    ],
    ids=["mlp", "notebook"],
)
def test_hidden_layers_weights_decay_and_nothing_else(network: str, decaying: dict[str, list[int]]) -> None:
    vae = build(network, (1, 12, 8), 3)
    before = {name: parameter.detach().clone() for name, parameter in vae.named_parameters()}
    optimiser = adam(vae, config(lr=0.1, weight_decay=0.5))
    for parameter in vae.parameters():
        parameter.grad = torch.zeros_like(parameter)  # Adam alone does not move by these
    optimiser.step()
    weights = {f"{part}.{layer}.weight" for part, layers in decaying.items() for layer in layers}
    assert weights <= before.keys()
    for name, parameter in vae.named_parameters():
        factor = 1 - 0.1 * 0.5 if name in weights else 1
        torch.testing.assert_close(parameter.detach(), factor * before[name], rtol=1e-6, atol=0)


def test_without_decay_the_optimiser_is_adam(data: DataSet) -> None:
    made = stepper(data)
    other = build("notebook", data.image_shape, 3)
    other.load_state_dict(dict(zip(other.state_dict(), made.parameters, strict=True)))
    adams = torch.optim.Adam(other.parameters(), made.config.lr, fused=True)
    for step in range(1, 4):
        made.gradients(step, np.arange(16))
        for mine, parameter in zip(other.parameters(), made.parameters, strict=True):
            mine.grad = parameter.grad
        made.apply(step)
        adams.step()
    for mine, parameter in zip(other.parameters(), made.parameters, strict=True):
        assert torch.equal(mine, parameter)


def test_bfloat16_is_float32_to_two_digits(data: DataSet) -> None:
    single, half = (stepper(data, precision=name).gradients(1, np.arange(16)).losses for name in ("fp32", "bf16"))
    assert half.total == pytest.approx(single.total, rel=0.02)
    assert half != single


@pytest.mark.usefixtures("no_report")
def test_averaged_weights_are_what_is_evaluated_and_exported(data: DataSet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    average = {name: parameter.detach() for name, parameter in build("notebook", (1, 12, 8), 3).named_parameters()}
    for steps in (1, 2, 3, 4):
        trainer.train(data, tmp_path / str(steps), config("notebook", steps=steps, ema=0.35))
        current = tensors(tmp_path / str(steps))
        decay = {1: 2 / 11, 2: 3 / 12, 3: 4 / 13, 4: 0.35}[steps]  # the start-up's, until the decay is reached
        average = {name: decay * average[name] + (1 - decay) * current[name] for name in current}
    saved = Checkpoint.open(tmp_path / "4")
    found = dict(saved.load_network().named_parameters())
    assert found.keys() == average.keys()
    for name, expected in average.items():
        torch.testing.assert_close(found[name].detach(), expected, rtol=1e-5, atol=1e-7)
    assert differences(tensors(tmp_path / "4"), tensors(tmp_path / "4", "averaged.")) > 1e-4
    assert data.test is not None
    logged = read_metrics(tmp_path / "4")[-1]
    assert logged["split"] == "test"
    measured = evaluate(saved.load_network().eval(), data.test, saved.config, CPU)
    assert logged["total"] == pytest.approx(measured.total, rel=1e-6)

    trainer.train(data, tmp_path / "plain", config("notebook", steps=4))
    assert differences(tensors(tmp_path / "plain"), tensors(tmp_path / "4")) == 0
    assert not tensors(tmp_path / "plain", "averaged.")


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("crash_at", [3, 7])
def test_a_run_with_every_option_goes_on_bit_for_bit(data: DataSet, tmp_path: Path, crash_at: int) -> None:
    def crash(record: dict[str, object]) -> None:
        if record["step"] == crash_at:
            raise CrashError

    settings = config(checkpoint_every=2, **EVERYTHING)
    trainer.train(data, tmp_path / "whole", settings)
    with pytest.raises(CrashError):
        trainer.train(data, tmp_path / "killed", settings, Progress(crash))
    trainer.resume(data, tmp_path / "killed")
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.usefixtures("no_report")
def test_a_checkpoint_from_before_the_options_goes_on(data: DataSet, tmp_path: Path) -> None:
    trainer.train(data, tmp_path / "whole", config(steps=6))
    trainer.train(data, tmp_path / "old", config(steps=4))
    path = tmp_path / "old/checkpoint.safetensors"
    with safe_open(path, "pt") as file:
        header = file.metadata()
    state = json.loads(header["state"])
    for name in (*EVERYTHING, "precision", "processes"):
        del state["config"][name]
    save_file(load(path.read_bytes()), path, header | {"state": json.dumps(state)})
    trainer.resume(data, tmp_path / "old", steps=6)
    whole, old = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "old"))
    assert differences(whole, old) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "mse"}, "objective is mse; it must be one of sse, bce, gaussian"),
        ({"beta": -1.0}, "beta is -1.0; it must be a finite number, at least 0"),
        ({"beta": math.nan}, "beta is nan"),
        ({"kl_warmup": -1}, "kl-warmup is -1; it must be at least 0"),
        ({"free_bits": math.inf}, "free-bits is inf"),
        ({"lr_warmup": -5}, "lr-warmup is -5"),
        ({"lr_schedule": "step"}, "lr-schedule is step; it must be one of constant, cosine"),
        ({"ema": 1.0}, r"ema is 1\.0; it must be at least 0 and below 1, such as 0\.999"),
        ({"clip_norm": -0.1}, "clip-norm is -0.1"),
        ({"weight_decay": -0.1}, "weight-decay is -0.1; it must be a finite number, at least 0"),
        ({"lr": 0.01, "weight_decay": 100}, "weight-decay is 100; it must be below 1 / lr, which is 100"),
        ({"accumulate": 0}, "accumulate is 0; it must be at least 1"),
        ({"precision": "fp16"}, "precision is fp16; it must be one of fp32, bf16"),
        (
            {"accumulate": 3},
            "batch-size is 16, which 1 process with accumulate 3 cannot share evenly; make it a multiple of 3",
        ),
        ({"processes": 3, "accumulate": 2}, "batch-size is 16, which 3 processes .*; make it a multiple of 6"),
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config(**changes)


@pytest.mark.usefixtures("no_report")
def test_options_reach_the_configuration(small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in EVERYTHING.items()]
    small = ["--preset=notebook", "--latent-dim=3", "--batch-size=16", "--steps=1", "--threads=1", "--precision=bf16"]
    run = tmp_path / "run"
    assert main(["train", "--quiet", "--data", str(small_data), "--out", str(run), *small, *options]) == 0
    found = Checkpoint.open(run).config.as_dict()
    assert found == found | EVERYTHING | {"precision": "bf16", "processes": 1}


def test_the_notebooks_presets_are_as_they_were() -> None:
    for preset in ("notebook", "notebook-relu"):
        found = TrainConfig.from_preset(preset).as_dict()
        expected = {"objective": "sse", "beta": 1, "kl_warmup": 0, "free_bits": 0, "lr_warmup": 0, "clip_norm": 0}
        expected |= {"weight_decay": 0, "lr_schedule": "constant", "ema": 0, "accumulate": 1, "precision": "fp32"}
        assert found == found | expected
