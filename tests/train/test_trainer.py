"""A run of training, against the formulas that it follows and what it must leave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from vae_gen.data.datasets import DataSet
from vae_gen.errors import OutputError, UsageError
from vae_gen_train import evaluation, trainer
from vae_gen_train.batches import batches
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.config import TrainConfig, preset_names
from vae_gen_train.evaluation import evaluate, latent_statistics
from vae_gen_train.metrics_log import read_metrics
from vae_gen_train.nets import build
from vae_gen_train.progress import Progress
from vae_gen_train.random_streams import Stream, seed_torch

from tests.train.small_runs import assert_same_run, config, tensors


@pytest.mark.parametrize("name", ["notebook", "notebook-relu"])
def test_presets_are_the_notebooks_settings(name: str) -> None:
    found = TrainConfig.from_preset(name)
    assert (found.network, found.latent_dim, found.batch_size, found.lr, found.steps) == (name, 8, 64, 5e-4, 30_000)
    assert name in preset_names()


@pytest.mark.parametrize(
    ("preset", "pictures", "expected"),
    [
        # 40,000 or more, or nobody knows how many
        ("mlp", 55_000, (6000, 13_000, 1000, 500)),
        ("mlp", 40_000, (6000, 13_000, 1000, 500)),
        ("conv", None, (20_000, 14_000, 1000, 500)),
        # (n / 40,000) ** 0.7 of them: 0.378929, 0.075607
        ("mlp", 10_000, (2300, 5000, 400, 200)),
        ("mlp", 1000, (500, 1000, 100, 100)),
        ("conv", 1000, (1600, 1100, 100, 100)),
        # at least twice the warm-up's 200 and 500
        ("mlp", 20, (400, 900, 100, 100)),
        ("conv", 20, (1000, 700, 100, 100)),
        ("notebook", 20, (30_000, 0, 1000, 200)),
    ],
)
def test_few_pictures_get_few_steps(preset: str, pictures: int | None, expected: tuple[int, ...]) -> None:
    found = TrainConfig.from_preset(preset, pictures)
    assert (found.steps, found.prior_steps, found.evaluate_every, found.picture_every) == expected
    asked = TrainConfig.from_preset(preset, pictures, steps=5000)
    assert (asked.steps, asked.prior_steps) == (5000, expected[1])


@pytest.mark.parametrize(("warmup", "steps"), [(None, 400), (1000, 2000), (3000, 6000), (4000, 6000), (0, 100)])
def test_few_pictures_get_at_least_twice_the_warmup_that_was_asked_for(warmup: int | None, steps: int) -> None:
    assert TrainConfig.from_preset("mlp", 20, lr_warmup=warmup).steps == steps


def test_a_run_learns_and_leaves_what_it_promises(data: DataSet, tmp_path: Path) -> None:
    run = tmp_path / "run"
    told: list[dict[str, object]] = []
    trainer.train(data, run, config("notebook", steps=120, log_every=20, latent_dim=8), Progress(told.append))

    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoint.safetensors",
        "config.json",
        "decoded-z.png",
        "histogram.png",
        "loss-curve.png",
        "metrics.jsonl",
        "reconstructions",
        "samples.png",
        "ten-samples.png",
        "traversal.gif",
        "traversals.png",
    ]
    records = read_metrics(run)
    assert records == told
    assert [record["step"] for record in records if record["split"] == "train"] == list(range(20, 121, 20))
    tests = [record for record in records if record["split"] == "test"]
    assert [record["step"] for record in tests] == list(range(4, 121, 4))
    assert all(record["total"] == record["reconstruction"] + record["kl"] for record in records)
    assert tests[-1]["total"] < 0.7 * tests[0]["total"]
    written = json.loads((run / "config.json").read_text())
    assert written["config"]["batch_size"] == 16
    assert written["data"] == data.describe()
    assert written["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    for path in run.glob("*.png"):
        with Image.open(path) as picture:
            assert len(np.unique(np.asarray(picture))) > 10
    with Image.open(run / "traversal.gif") as animation:
        assert animation.n_frames > 1
    # Ten inputs over ten reconstructions, twice as large: 2 + 10 x (8 + 2) and 2 + 2 x (12 + 2) pixels.
    with Image.open(run / "reconstructions" / "step-000120.png") as picture:
        assert picture.size == (204, 60)
        pixels = np.asarray(picture)[4:28:2, 4:20:2]
    np.testing.assert_array_equal(pixels, data.validation[0, 0])


def test_training_is_adam_on_squared_errors_plus_kl(data: DataSet, tmp_path: Path) -> None:
    """Three steps, against the loss and Adam (Kingma & Ba 2015, algorithm 1) written out."""
    trainer.train(data, tmp_path / "run", config("notebook", steps=3, lr=2e-3))

    torch.manual_seed(0)
    vae = build("notebook", (1, 12, 8), 3)
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in vae.named_parameters()}
    order = batches(seed=0, images=len(data.train), batch_size=16, first_step=0)
    for step in (1, 2, 3):
        seed_torch(0, Stream.STEPS, step)
        image = torch.from_numpy(data.train[next(order)] / np.float32(255))
        mean, log_var = vae.encoder(image)
        output = vae.decoder(mean + torch.exp(log_var / 2) * torch.randn_like(mean))
        squares = ((output - image) ** 2).sum((1, 2, 3))
        kl = ((mean**2 + log_var.exp() - log_var - 1) / 2).sum(1)
        gradients = torch.autograd.grad((squares + kl).mean(), list(vae.parameters()))
        with torch.no_grad():
            for (name, parameter), gradient in zip(vae.named_parameters(), gradients, strict=True):
                first, second = moments[name]
                first.mul_(0.9).add_(0.1 * gradient)
                second.mul_(0.999).add_(0.001 * gradient**2)
                unbiased = first / (1 - 0.9**step), second / (1 - 0.999**step)
                parameter.sub_(2e-3 * unbiased[0] / (unbiased[1].sqrt() + 1e-8))
    found = tensors(tmp_path / "run")
    assert found.keys() == dict(vae.named_parameters()).keys()
    for name, parameter in vae.named_parameters():
        # Where a gradient is nearly nothing, Adam turns its rounding errors into steps.
        close = torch.isclose(found[name], parameter, rtol=1e-3, atol=1e-4)
        assert close.float().mean() > 0.999, name


@pytest.mark.parametrize("change", [{"lr": 2e-3}, {"batch_size": 8}, {"seed": 1}])
def test_every_setting_changes_what_is_learned(data: DataSet, tmp_path: Path, change: dict[str, object]) -> None:
    trainer.train(data, tmp_path / "one", config(steps=2))
    trainer.train(data, tmp_path / "other", config(steps=2, **change))
    one, other = tensors(tmp_path / "one"), tensors(tmp_path / "other")
    assert not torch.equal(one["decoder.0.weight"], other["decoder.0.weight"])


def test_a_checkpoint_that_cannot_be_written_is_named(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OutputError, match=r"cannot write .*checkpoint\.safetensors: No space left on device"):
            trainer.train(data, tmp_path / "run", config())
    assert not list((tmp_path / "run").iterdir())
    trainer.train(data, tmp_path / "run", config(steps=1))  # in the same place, once there is space


def test_the_seed_decides_everything(data: DataSet, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(len(name) + seed * 7 + ord(name))
        trainer.train(data, tmp_path / name, config(seed=seed))
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert not torch.equal(
        *(load_file(tmp_path / name / "checkpoint.safetensors")["network.decoder.0.weight"] for name in "ac")
    )


def test_a_checkpoint_holds_the_network_and_says_what_it_is(data: DataSet, tmp_path: Path) -> None:
    trainer.train(data, tmp_path / "run", config())
    saved = Checkpoint.open(tmp_path / "run")
    assert (saved.step, saved.config, saved.image_shape, saved.data) == (
        12,
        config(threads=torch.get_num_threads()),
        (1, 12, 8),
        data.describe(),
    )
    vae = saved.load_network().eval()
    device = torch.device("cpu")
    records = [record for record in read_metrics(tmp_path / "run") if record["split"] == "test"]
    assert data.test is not None
    assert evaluate(vae, data.test, config(), device).total == pytest.approx(records[-1]["total"], rel=1e-5)

    # The statistics, in another way: by drawing from the posteriors of the validation images.
    with torch.inference_mode():
        mean, log_var = vae.encoder(torch.from_numpy(data.validation / np.float32(255)))
        draws = mean + (0.5 * log_var).exp() * torch.randn(20_000, *mean.shape)
    np.testing.assert_allclose(saved.latents["mean"], draws.mean((0, 1)), atol=0.02)
    np.testing.assert_allclose(saved.latents["std"], draws.std((0, 1)), rtol=0.02)
    assert latent_statistics(vae, data.validation, device)["kl"] == pytest.approx(saved.latents["kl"], rel=1e-4)
    assert not list((tmp_path / "run").glob("*.pt")) + list((tmp_path / "run").glob("*.pkl"))


def test_latents_are_measured_on_no_more_images_than_a_checkpoint_may_cost(
    data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluation.LATENT_VALUES >= 5000 * 28 * 28  # all of MNIST's, as the shipped models' manifests say
    torch.manual_seed(0)
    vae = build("notebook", (1, 12, 8), 3)
    images, device = data.train[:100], torch.device("cpu")
    monkeypatch.setattr(evaluation, "LATENT_VALUES", 100 * 12 * 8)
    everything = latent_statistics(vae, images, device)
    monkeypatch.setattr(evaluation, "LATENT_VALUES", 26 * 12 * 8 - 1)
    found = latent_statistics(vae, images, device)
    with torch.inference_mode():
        all_means = vae.encoder(torch.from_numpy(images / np.float32(255)))[0].double().numpy()
    np.testing.assert_allclose(everything["mean"], all_means.mean(0), rtol=1e-4)
    np.testing.assert_allclose(found["mean"], all_means[::4].mean(0), rtol=1e-4)


def test_training_sees_training_images_only(data: DataSet, tmp_path: Path) -> None:
    spoiled = DataSet(data.sha256, data.test_sha256, data.train, 255 - data.validation, 255 - data.test)
    trainer.train(data, tmp_path / "a", config())
    trainer.train(spoiled, tmp_path / "b", config())
    a, b = (load_file(tmp_path / name / "checkpoint.safetensors") for name in "ab")
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"batch_size": -1}, "batch-size is -1"),
        ({"latent_dim": 0}, "latent-dim is 0"),
        ({"latent_dim": 10**19}, "latent-dim is 10000000000000000000; it must be at most 1,000,000,000,000"),
        ({"checkpoint_every": 0}, "checkpoint-every is 0; it must be at least 1"),
        ({"evaluate_every": -5}, "evaluate-every is -5; it must be at least 1"),
        ({"lr": 0.0}, "lr is 0.0; it must be above 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config(**changes)
    with pytest.raises(UsageError, match="unknown preset 'huge'; known: conv, mlp, notebook, notebook-relu"):
        TrainConfig.from_preset("huge")
