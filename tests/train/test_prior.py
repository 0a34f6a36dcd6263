"""The second stage of training, against what it must make of latents and images that are known."""

from __future__ import annotations

import copy
import math
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import vae_gen
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from vae_gen.cli import main
from vae_gen.datasets import DataSet
from vae_gen.errors import DataError, StoppedError, UsageError, VaeGenError
from vae_gen_export.publish import publish
from vae_gen_export.sources.training_run import open_run
from vae_gen_train import posterior_variances, prior, trainer
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.config import ADVERSARIAL_TARGETS, TrainConfig
from vae_gen_train.discriminator import Discriminator
from vae_gen_train.metrics_log import read_metrics
from vae_gen_train.nets import VAE, Encoder
from vae_gen_train.prior import PriorFit, has_variances
from vae_gen_train.progress import Progress

from tests.train.small_runs import CrashError, assert_same_run
from tests.train.small_runs import config as small_config
from tests.train.test_distributed import MINUTES, two_processes

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("no_report")


def config(**changes: object) -> TrainConfig:
    small = {"threads": 1, "steps": 6, "prior_steps": 10, "flow_couplings": 2, "flow_width": 8, "evaluate_every": 100}
    return small_config("mlp", **small | changes)


class Two(nn.Module):
    """Features of a picture that are its first three values."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.flatten(1)[:, :3]


def vae_with_known_latents() -> VAE:
    """q(z | image) has the image's first two values as means, and the third decides its variances."""
    encoder = Encoder(Two(), 3, 2)
    with torch.no_grad():
        encoder.mean.weight.copy_(torch.tensor([[20.0, 0, 0], [0, 8, 0]]))
        encoder.mean.bias.copy_(torch.tensor([-10.0, 1]))
        encoder.log_var.weight.copy_(torch.tensor([[0.0, 0, 2], [0, 0, -2]]))
        encoder.log_var.bias.copy_(torch.tensor([-3.0, -2]))
    return VAE(encoder, nn.Sequential(nn.Linear(2, 6), nn.Sigmoid(), nn.Unflatten(1, (1, 2, 3))))


def images_in_two_groups() -> np.ndarray:
    """The first value is near 50 or near 200, in one of three and in two of three; the second follows the first."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (1500, 1, 2, 3)).astype(np.uint8)
    group = random.random(1500) < 2 / 3
    first = np.where(group, 200, 50) + random.integers(-8, 9, 1500)
    images[:, 0, 0, 0] = first
    images[:, 0, 0, 1] = np.where(group, 60, 190) + random.integers(-20, 21, 1500)
    return images


def fitted_to_two_groups(likelihood_steps: int, **changes: object) -> tuple[VAE, torch.Tensor, PriorFit]:
    """A VAE, its images, and its prior after all steps, of which the first so many are by likelihood alone."""
    torch.manual_seed(0)
    vae, images = vae_with_known_latents(), images_in_two_groups()
    before = copy.deepcopy(vae.state_dict())
    settings = config(**{"latent_dim": 2, "batch_size": 256, "flow_couplings": 6, "flow_width": 32} | changes)
    fit = PriorFit(vae, images, settings, CPU)
    for step in range(1, settings.prior_steps + 1):
        assert (fit.take_step(step).discriminator is None) == (step <= likelihood_steps)
    assert all(torch.equal(tensor, before[name]) for name, tensor in vae.state_dict().items())  # a copy learned
    return vae, torch.from_numpy(images / np.float32(255)), fit


def test_by_likelihood_noise_lands_where_the_latents_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior, "BATCH", 256)
    vae, image, fit = fitted_to_two_groups(likelihood_steps=600, prior_steps=600, adversarial_share=0.0)
    mean, log_var = vae.encoder(image)
    real = (mean + torch.exp(log_var / 2) * torch.randn_like(mean)).detach().double()
    with torch.no_grad():
        drawn = fit.averaged.flow(torch.randn(20_000, 2))[0].double()
    assert (drawn[:, 0] > 0).double().mean().item() == pytest.approx((real[:, 0] > 0).double().mean().item(), abs=0.05)
    for side in (-1, 1):  # each group has its own centre and spread
        one, other = (points[points[:, 0] * side > 0] for points in (drawn, real))
        for quantile in (0.2, 0.5, 0.8):
            torch.testing.assert_close(one.quantile(quantile, 0), other.quantile(quantile, 0), rtol=0, atol=0.45)


def test_against_the_discriminator_noise_becomes_like_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups of pictures, and a decoder that has learned nothing yet."""
    monkeypatch.setattr(prior, "BATCH", 256)
    monkeypatch.setattr(prior, "ADVERSARIAL_LR", 5e-3)
    monkeypatch.setattr(prior, "DISCRIMINATOR_LR", 5e-3)
    vae, image, fit = fitted_to_two_groups(likelihood_steps=405, prior_steps=900, flow_couplings=4)
    with torch.no_grad():
        error = (fit.averaged.decoder(vae.encoder(image)[0]) - image).square()[:, 0, 0, :2].mean()
        noise = fit.network.decoder(torch.randn(20_000, 2))[:, 0, 0, :2]
    real = image[:, 0, 0, :2]
    assert error < 0.004
    assert (noise[:, 0] > 0.5).float().mean().item() == pytest.approx(2 / 3, abs=0.08)
    for side in (-1, 1):
        one, other = (points[(points[:, 0] - 0.5) * side > 0] for points in (noise, real))
        torch.testing.assert_close(one.median(0).values, other.median(0).values, rtol=0, atol=0.04)
    assert ((noise[:, 0] - 0.5).abs() < 0.2).float().mean() < 0.065  # few are between the groups


def test_how_far_latents_lie_beyond_is_counted_in_widths() -> None:
    lowest, highest = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])
    z = torch.tensor([[0.0, 2.0], [-1.0, 4.0], [3.0, 4.0], [-2.0, 12.0], [1e30, 0.0]])
    expected = [0, 0, np.log(1 + 1), np.log(1 + 0.5) + np.log(1 + 2), np.log(1 + 0.5e30)]
    torch.testing.assert_close(prior.beyond(z, lowest, highest), torch.tensor(expected, dtype=torch.float32))


def test_noise_beyond_the_latents_of_all_images_is_called_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(weight: float, steps: int) -> float:
        """The share of noise that is beyond, after so many steps."""
        monkeypatch.setattr(prior, "BEYOND_WEIGHT", weight)
        settings = config(latent_dim=2, batch_size=256, adversarial_share=1.0, prior_steps=300)
        torch.manual_seed(0)
        fit = PriorFit(vae := vae_with_known_latents(), images, settings, CPU)
        fit.prior.flow.scale *= 3  # as if steps had thrown it there
        for step in range(1, steps + 1):
            fit.take_step(step)
        with torch.no_grad():
            mean, log_var = vae.encoder(torch.from_numpy(images / np.float32(255)))
            reach = 3 * torch.exp(log_var / 2)
            noise = fit.prior.flow(torch.randn(5000, 2))[0]
        outside = (noise > (mean + reach).amax(0)) | (noise < (mean - reach).amin(0))
        return outside.any(1).float().mean().item()

    images = images_in_two_groups()
    monkeypatch.setattr(prior, "ADVERSARIAL_LR", 5e-3)
    assert lost(0, steps=0) > 0.3
    assert lost(10, steps=300) < 0.2 * lost(0, steps=300)


@pytest.mark.parametrize("target", ADVERSARIAL_TARGETS)
def test_the_discriminator_compares_decoded_noise_with_the_target(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    vae, images = vae_with_known_latents(), images_in_two_groups()[:40]
    nn.init.constant_(vae.encoder.log_var.bias, -60)  # a draw from a posterior is its mean
    image = torch.from_numpy(images / np.float32(255))
    with torch.no_grad():
        allowed = {"images": image, "reconstructions": vae.decoder(vae.encoder(image)[0])}[target].flatten(1)
    shown: list[torch.Tensor] = []
    loss = Discriminator.loss

    def look(
        self: Discriminator, real: torch.Tensor, generated: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        shown.append(real.detach().flatten(1))
        return loss(self, real, generated, step)

    monkeypatch.setattr(Discriminator, "loss", look)
    settings = config(latent_dim=2, batch_size=64, adversarial_share=1.0, adversarial_target=target)
    fit = PriorFit(vae, images, settings, CPU)
    before = copy.deepcopy(fit.prior.state_dict())
    fit.take_step(1)
    (real,) = shown
    assert len(real) == 32
    apart, row = (real[:, None] - allowed).abs().amax(2).min(1)
    assert apart.max() < 1e-6
    assert len(row.unique()) > 10

    def learned(part: str) -> bool:
        return any(tensor.any() for name, tensor in moved.items() if name.startswith(part))

    moved = {name: value - before[name] for name, value in fit.prior.state_dict().items()}
    assert learned("flow.couplings")
    assert learned("decoder") == (target == "images")


def test_the_composite_reconstructs_as_the_vae_does_and_knows_its_variances() -> None:
    torch.manual_seed(0)
    vae, images = vae_with_known_latents(), images_in_two_groups()
    train, validation = images[:1200], images[1200:] // 2 + 64  # greyer, so that the errors are smaller
    fit = PriorFit(vae, train, config(latent_dim=2), CPU)
    for parameter in fit.averaged.flow.parameters():
        nn.init.normal_(parameter, std=0.1)
    assert not has_variances(fit.network)
    fit.fit_head(validation, lambda: 0)
    network = fit.network
    assert has_variances(network)
    unseen = torch.from_numpy(validation / np.float32(255))
    image = torch.from_numpy(train[:200] / np.float32(255))
    with torch.no_grad():
        mean, _ = vae.encoder(image)
        u, u_log_var = network.encoder(image)
        torch.testing.assert_close(network.decoder(u), vae.decoder(mean), rtol=0, atol=1e-5)

        # The precision of u_i to second order, by the decoder's exact derivatives.
        jacobian = torch.stack(
            [torch.autograd.functional.jacobian(lambda v: network.decoder(v[None])[0].flatten(), each) for each in u]
        )
        variance = (network.decoder(network.encoder(unseen)[0]) - unseen).square().mean()
        expected = -torch.log(1 + jacobian.square().sum(1) / variance)
    assert expected.std() > 0.1
    assert (u_log_var - expected).abs().mean() < 0.1
    assert np.corrcoef(u_log_var[:, 0], expected[:, 0])[0, 1] > 0.9


def test_a_signal_while_the_variances_are_found_stops_at_once_and_is_made_good(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.train(data, tmp_path / "whole", config())
    monkeypatch.setattr(prior, "HEAD_BATCH_VALUES", 12 * 8 * 16)
    calls: list[int] = []

    def interrupted(decoder: nn.Module, u: torch.Tensor) -> torch.Tensor:
        calls.append(len(u))
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return posterior_variances.estimated_slopes(decoder, u)

    run = tmp_path / "run"
    monkeypatch.setattr(prior, "estimated_slopes", interrupted)
    with pytest.raises(StoppedError, match="all 16 steps are saved; finish with"):
        trainer.train(data, run, config())
    assert calls == [16, 16]
    assert not has_variances(Checkpoint.open(run).load_network())
    unfinished = f"{run} is not finished: step 16 of 16, and its encoder says log_var = 0 everywhere"
    assert main(["export", str(run), "--out", str(tmp_path / "early")]) == 0
    assert unfinished in capsys.readouterr().err

    monkeypatch.undo()
    monkeypatch.setattr(trainer, "draw_report", lambda *arguments: None)
    trainer.resume(data, run)
    assert_same_run(run, tmp_path / "whole")
    assert open_run(run).note == ""


@pytest.mark.parametrize("crash_at", [9, 14])  # in either part of the second stage, after the save at step 8 and 12
def test_a_prior_that_was_interrupted_goes_on_bit_for_bit(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    settings = config(checkpoint_every=4, prior_steps=12)
    trainer.train(data, tmp_path / "whole", settings)
    taken = PriorFit.take_step

    def crash(fit: PriorFit, step: int) -> prior.Reading:
        if step == crash_at - settings.steps:
            raise CrashError
        return taken(fit, step)

    monkeypatch.setattr(PriorFit, "take_step", crash)
    with pytest.raises(CrashError):
        trainer.train(data, tmp_path / "broken", settings)
    monkeypatch.setattr(PriorFit, "take_step", taken)
    assert Checkpoint.open(tmp_path / "broken").step == crash_at // 4 * 4
    trainer.resume(data, tmp_path / "broken")
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_a_signal_in_the_second_stage_saves_and_stops(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(step: int) -> None:
        if step == 11:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(StoppedError, match="step 12 of 16 is saved"):
        trainer.train(data, tmp_path / "run", config(), Progress(step=interrupt))
    assert Checkpoint.open(tmp_path / "run").step == 12
    assert not has_variances(Checkpoint.open(tmp_path / "run").load_network())
    assert open_run(tmp_path / "run").note.startswith(f"{tmp_path / 'run'} is not finished: step 12 of 16, and")


def test_the_prior_s_steps_do_not_hide_that_fewer_are_asked_for_than_are_done(data: DataSet, tmp_path: Path) -> None:
    def interrupt(step: int) -> None:
        if step == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(StoppedError, match="step 5 of 16 is saved"):
        trainer.train(data, tmp_path / "run", config(), Progress(step=interrupt))
    before = (tmp_path / "run/checkpoint.safetensors").read_bytes()
    with pytest.raises(UsageError, match=r"steps is 4, but .*run has already done 5"):
        trainer.resume(data, tmp_path / "run", steps=4)
    assert (tmp_path / "run/checkpoint.safetensors").read_bytes() == before
    trainer.resume(data, tmp_path / "run", steps=5)
    assert Checkpoint.open(tmp_path / "run").step == 15


def test_a_run_with_a_prior_is_logged_and_exported(data: DataSet, tmp_path: Path) -> None:
    said: list[str] = []
    trainer.train(data, tmp_path / "run", config(log_every=2), Progress(say=said.append))
    assert said == ["finding how wide the posteriors are; large pictures take minutes"]
    records = read_metrics(tmp_path / "run")
    fitted = [record for record in records if record["split"] == "prior"]
    assert [record["step"] for record in fitted] == [8, 10, 12, 14, 16]
    assert [record["discriminator"] is None for record in fitted] == [True, True, False, False, False]
    assert [record["step"] for record in records if record["split"] == "test"] == [6, 16]

    publish(open_run(tmp_path / "run"), tmp_path / "bundle")
    network = Checkpoint.open(tmp_path / "run").load_network().eval()
    model = vae_gen.load(tmp_path / "bundle")
    z = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    with torch.no_grad():
        expected = network.decoder(torch.from_numpy(z)).numpy()
        plain = Checkpoint.open(tmp_path / "run").load_network().decoder.decoder(torch.from_numpy(z)).numpy()
    np.testing.assert_allclose(model.decode(z), expected, rtol=0, atol=1e-6)
    assert np.abs(expected - plain).max() > 1e-4  # the flow is in the graph
    mean, _ = model.encode(data.test[:4] / np.float32(255))
    statistics = model.description.latent_std
    assert len(statistics) == 3
    assert np.isfinite(mean).all()


def test_without_a_preset_the_pictures_decide(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prior, "HEAD_FEWEST", 64)
    np.save(tmp_path / "colour.npy", np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32)).astype(np.uint8))
    small = ["--steps", "2", "--prior-steps", "3", "--flow-couplings", "1", "--flow-width", "4", "--quiet"]
    for name, source in (("mlp", small_data), ("conv", tmp_path / "colour.npy")):
        run = tmp_path / name
        assert main(["train", "--data", str(source), "--out", str(run), *small]) == 0
        found = Checkpoint.open(run)
        assert (found.step, found.config.preset, found.config.objective) == (5, name, "gaussian")
        assert (found.config.flow_couplings, found.config.flow_width) == (1, 4)
        flow = found.load_network().decoder.flow
        assert [len(flow.couplings), flow.couplings[0].network[0].out_features] == [1, 4]
        assert main(["export", str(run), "--out", str(tmp_path / f"{name}-bundle"), "--quiet"]) == 0
    assert main(["train", "--resume", str(run), "--prior-steps", "9"]) == 2


def test_two_processes_leave_the_prior_to_the_first(small_data: Path, tmp_path: Path) -> None:
    options = ["--preset", "mlp", "--data", str(small_data), "--latent-dim", "3", "--batch-size", "16", "--steps", "3"]
    options += ["--prior-steps", "6", "--flow-couplings", "1", "--flow-width", "4", "--quiet"]
    with two_processes(*options, "--out", str(tmp_path / "two")) as process:
        process.communicate(timeout=MINUTES)
    assert process.returncode == 0
    assert main(["train", *options, "--threads", "1", "--out", str(tmp_path / "one")]) == 0
    two, one = (Checkpoint.open(tmp_path / name).load_network().state_dict() for name in ("two", "one"))
    assert max((two[name] - one[name]).abs().max().item() for name in one) < 2e-3


@pytest.mark.parametrize("option", ["--flow-couplings 2", "--flow-width 8", "--adversarial-share 0.5"])
@pytest.mark.parametrize("preset", ["notebook", "mlp --prior-steps 0"])
def test_options_of_a_prior_that_there_is_not_are_refused(
    option: str, preset: str, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--preset", *preset.split(), *option.split(), "--data", str(small_data)]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 2
    assert f"{option.partition(' ')[0]} is for the prior, and prior-steps is 0" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_is_refused(data: DataSet, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="prior-steps is -1; it must be at least 0"):
        config(prior_steps=-1)
    with pytest.raises(UsageError, match=r"adversarial-share is 1\.5; it must be from 0 to 1"):
        config(adversarial_share=1.5)
    with pytest.raises(UsageError, match="adversarial-target is photos; it must be one of images, reconstructions"):
        config(adversarial_target="photos")
    with pytest.raises(UsageError, match="latent-dim is 1; a prior is fitted to 2 latents or more"):
        config(latent_dim=1)
    trainer.train(data, tmp_path / "run", config())
    with pytest.raises(UsageError, match=r"steps is 20, but the prior of .* belongs to the network after 6"):
        trainer.resume(data, tmp_path / "run", steps=20)


def test_a_prior_that_diverges_ends_the_run(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior, "LIKELIHOOD_LR", math.inf)
    with pytest.raises(VaeGenError, match="fitting the prior diverged at its step 2"):
        trainer.train(data, tmp_path / "run", config())
    assert Checkpoint.open(tmp_path / "run").step == 6


def test_a_prior_of_another_version_is_refused(data: DataSet, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer.train(data, run, config())
    path = run / "checkpoint.safetensors"
    with safe_open(path, "pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
    save_file({name: tensor for name, tensor in tensors.items() if ".decoder." not in name}, path, header)
    message = r"checkpoint\.safetensors is of another version, whose networks were built otherwise; train it again"
    with pytest.raises(DataError, match=message):
        Checkpoint.open(run).load_network()
    with pytest.raises(DataError, match=message):
        trainer.resume(data, run)
