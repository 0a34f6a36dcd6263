"""Runs that fit a prior: interrupted, stopped and resumed, and what they refuse."""

from __future__ import annotations

import json
import math
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import vae_gen
from safetensors import safe_open
from safetensors.torch import load, load_file, save_file
from torch import Tensor, nn
from vae_gen.cli import main
from vae_gen.data.datasets import DataSet
from vae_gen.errors import DataError, StoppedError, UsageError, VaeGenError
from vae_gen.manifest import Manifest
from vae_gen_export.publish import publish
from vae_gen_export.sources.training_run import open_run
from vae_gen_train import posterior_variances, prior, trainer
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.discriminator import Discriminator
from vae_gen_train.metrics_log import read_metrics
from vae_gen_train.prior import PriorFit, has_variances
from vae_gen_train.progress import Progress

from tests.systems import needs_signals
from tests.train.small_runs import CrashError, assert_same_run
from tests.train.test_distributed import MINUTES, finish, two_processes
from tests.train.test_prior import config


def test_a_signal_while_the_variances_are_found_stops_at_once_and_is_made_good(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.train(data, tmp_path / "whole", config())
    monkeypatch.setattr(posterior_variances, "BATCH_VALUES", 12 * 8 * 16)
    calls: list[int] = []
    estimated_slopes = posterior_variances.estimated_slopes

    def interrupted(decoder: nn.Module, u: torch.Tensor, deviations: Callable[..., torch.Tensor]) -> torch.Tensor:
        calls.append(len(u))
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return estimated_slopes(decoder, u, deviations)

    run = tmp_path / "run"
    monkeypatch.setattr(posterior_variances, "estimated_slopes", interrupted)
    with pytest.raises(StoppedError, match="all 16 steps are saved; finish with"):
        trainer.train(data, run, config())
    assert calls == [16, 16]
    assert not has_variances(Checkpoint.open(run).load_network())
    unfinished = "step 16 of 16, and its encoder says log_var = 0 everywhere, as the variances are found last"
    assert main(["export", str(run), "--out", str(tmp_path / "early")]) == 0
    assert f"{run} is not finished: {unfinished}; go on with" in capsys.readouterr().err
    manifest = Manifest.read(tmp_path / "early")
    assert manifest.training["unfinished"] == unfinished
    assert manifest.metrics.keys() == {"command"}  # those of step 6 are of the network without its prior
    assert main(["info", str(tmp_path / "early")]) == 0
    assert re.search(f"^ *unfinished +{re.escape(unfinished)}$", capsys.readouterr().out, re.MULTILINE)

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


def test_a_prior_is_fitted_anew_with_other_steps_or_added_later(data: DataSet, tmp_path: Path) -> None:
    trainer.train(data, tmp_path / "whole", config(prior_steps=7))
    for name, before in {"longer": 12, "shorter": 3, "without": 0}.items():
        run = tmp_path / name
        trainer.train(data, run, config(prior_steps=before))
        trainer.resume(data, run, prior_steps=7)
        assert_same_run(tmp_path / "whole", run)
        pictures = [path.name for path in sorted((run / "reconstructions").iterdir())]
        assert pictures == ["step-000006.png", "step-000013.png"]
        assert json.loads((run / "config.json").read_text())["config"]["prior_steps"] == 7


def test_a_prior_that_was_to_be_fitted_anew_is_gone_where_its_records_are(data: DataSet, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer.train(data, tmp_path / "whole", config(prior_steps=7))
    trainer.train(data, run, config(prior_steps=12))
    for name in ("step-000100.png", "step-1000000.png", "step-mine.png"):
        (run / "reconstructions" / name).touch()

    def crash(record: dict[str, object]) -> None:
        raise CrashError

    with pytest.raises(CrashError):
        trainer.resume(data, run, prior_steps=7, progress=Progress(crash))
    assert Checkpoint.open(run).step == 6
    assert max(record["step"] for record in read_metrics(run)) == 7  # the one at which it crashed
    assert [path.name for path in sorted((run / "reconstructions").iterdir())] == ["step-000006.png", "step-mine.png"]
    trainer.resume(data, run)
    assert_same_run(tmp_path / "whole", run)


def test_more_that_was_asked_for_is_remembered_if_the_run_is_killed_at_once(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.train(data, tmp_path / "whole", config(prior_steps=7))
    run = tmp_path / "run"
    trainer.train(data, run, config(prior_steps=0))

    def crash(fit: PriorFit, step: int) -> prior.Reading:
        raise CrashError

    monkeypatch.setattr(PriorFit, "take_step", crash)
    with pytest.raises(CrashError):
        trainer.resume(data, run, prior_steps=7)
    monkeypatch.undo()
    monkeypatch.setattr(trainer, "draw_report", lambda *arguments: None)
    trainer.resume(data, run)
    assert_same_run(tmp_path / "whole", run)


def test_a_decoder_that_shows_the_same_whatever_the_latents_ends_a_run_too(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(*arguments: object) -> tuple[Tensor, Tensor]:  # of latents that change nothing: as wide as the prior
        return torch.zeros(3, 512), torch.zeros(3)

    monkeypatch.setattr(prior, "posterior_variances", found)
    trainer.train(data, tmp_path / "run", config())
    assert open_run(tmp_path / "run").note == ""
    assert max(record["step"] for record in read_metrics(tmp_path / "run") if record["split"] == "test") == 16


def test_what_a_finished_run_can_do_is_told(
    data: DataSet, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run, more in {
        "fitted": "another number of --prior-steps fits its prior anew",
        "plain": "--steps gives it more",
    }.items():
        where = tmp_path / run
        trainer.train(data, where, config(prior_steps=10 if run == "fitted" else 0))
        assert main(["train", "--data", str(small_data), "--resume", str(where)]) == 0
        steps = 16 if run == "fitted" else 6
        assert f"all {steps} steps of {where} are done already; {more}\n" in capsys.readouterr().err
        assert main(["train", "--data", str(small_data), "--resume", str(where), "--prior-steps", "5"]) == 0
        assert "done already" not in capsys.readouterr().err
        assert Checkpoint.open(where).step == 11


def test_a_run_with_a_prior_is_logged_and_exported(data: DataSet, tmp_path: Path) -> None:
    said: list[str] = []
    trainer.train(data, tmp_path / "run", config(log_every=2), Progress(say=said.append))
    assert said == ["last step: measuring the encoder's variances"]
    records = read_metrics(tmp_path / "run")
    fitted = [record for record in records if record["split"] == "prior"]
    assert [record["step"] for record in fitted] == [8, 10, 12, 14, 16]
    assert [record["discriminator"] is None for record in fitted] == [True, True, False, False, False]
    assert [record["step"] for record in records if record["split"] == "test"] == [6, 16]

    manifest = publish(open_run(tmp_path / "run"), tmp_path / "bundle")
    assert list(manifest.training) == ["steps", "config", "data", "packages"]
    assert [manifest.metrics[split]["step"] for split in ("validation", "test")] == [16, 16]
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
    monkeypatch.setattr(posterior_variances, "FEWEST", 64)
    np.save(tmp_path / "colour.npy", np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32)).astype(np.uint8))
    small = ["--steps", "2", "--prior-steps", "3", "--flow-couplings", "1", "--flow-width", "4", "--quiet"]
    for name, source in (("mlp", small_data), ("conv", tmp_path / "colour.npy")):
        run = tmp_path / name
        assert main(["train", "--data", str(source), "--out", str(run), *small]) == 0
        found = Checkpoint.open(run)
        assert (found.step, found.config.preset, found.config.objective) == (5, name, "gaussian")
        assert found.config.evaluate_every == 100  # of so few pictures
        assert (found.config.flow_couplings, found.config.flow_width) == (1, 4)
        flow = found.load_network().decoder.flow
        assert flow.weights[0].shape[:2] == (1, 4)
        assert main(["export", str(run), "--out", str(tmp_path / f"{name}-bundle"), "--quiet"]) == 0
    assert main(["train", "--resume", str(run), "--flow-couplings", "9"]) == 2


@needs_signals
def test_two_processes_fit_the_prior_as_one_does_and_go_on_after_a_signal(small_data: Path, tmp_path: Path) -> None:
    options = ["--preset", "mlp", "--data", str(small_data), "--latent-dim", "3", "--batch-size", "16", "--steps", "3"]
    options += ["--flow-couplings", "1", "--flow-width", "4", "--adversarial-share", "0.5"]
    many, few = ["--prior-steps", "600"], ["--prior-steps", "6", "--accumulate", "2"]
    stopped = tmp_path / "stopped"
    finish(*options, *many, "--out", str(tmp_path / "whole"))
    with two_processes(*options, *many, "--out", str(stopped)) as process:
        deadline = time.monotonic() + MINUTES
        while not (stopped / "checkpoint.safetensors").exists() or Checkpoint.open(stopped).step < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.terminate()
        process.communicate(timeout=MINUTES)
    assert 3 < Checkpoint.open(stopped).step < 603
    finish("--resume", str(stopped), "--data", str(small_data))
    assert_same_run(stopped, tmp_path / "whole")

    finish(*options, *few, "--out", str(tmp_path / "two"))
    assert main(["train", *options, *few, "--quiet", "--threads", "1", "--out", str(tmp_path / "one")]) == 0
    found, expected = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("two", "one"))
    assert found.keys() == expected.keys()
    for name in expected:
        if "log_var" in name and name.startswith("prior."):  # random projections, others in each process
            continue
        difference = torch.linalg.vector_norm(found[name].double() - expected[name].double())
        assert difference <= 1e-3 * torch.linalg.vector_norm(expected[name].double()), name
    for record, other in zip(read_metrics(tmp_path / "two"), read_metrics(tmp_path / "one"), strict=True):
        for name in {"nll", "discriminator"} & record.keys():
            assert record[name] == pytest.approx(other[name], rel=1e-5)


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
    with pytest.raises(UsageError, match=r"prior-steps is 0, but .* has a prior; give at least 1 to fit it anew"):
        trainer.resume(data, tmp_path / "run", prior_steps=0)


def test_a_prior_that_diverges_ends_the_run(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior, "LIKELIHOOD_LR", math.inf)
    with pytest.raises(VaeGenError, match="fitting the prior diverged at its step 2"):
        trainer.train(data, tmp_path / "run", config())
    assert Checkpoint.open(tmp_path / "run").step == 6


@pytest.mark.parametrize("at", ["a checkpoint", "the end"])
@pytest.mark.usefixtures("no_report")
def test_gradients_of_a_prior_that_are_not_finite_are_never_saved(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    settings = config(checkpoint_every=4)
    step = settings.prior_steps if at == "the end" else 8 - settings.steps % 4
    learn = Discriminator.learn

    def spoiled(
        self: Discriminator, real: Tensor, generated: Tensor, number: int, share: float
    ) -> tuple[Tensor, Tensor]:
        told, fooling = learn(self, real, generated, number, share)
        return told, fooling * (torch.inf if number == step else 1)

    monkeypatch.setattr(Discriminator, "learn", spoiled)
    with pytest.raises(VaeGenError, match=f"diverged at its step {step}: .*gradient norm nan"):
        trainer.train(data, tmp_path / "run", settings)
    saved = Checkpoint.open(tmp_path / "run")
    assert saved.step < settings.steps + step
    assert all(tensor.isfinite().all() for tensor in load_file(saved.path).values())


def test_a_prior_of_another_version_is_refused(data: DataSet, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer.train(data, run, config())
    path = run / "checkpoint.safetensors"
    with safe_open(path, "pt") as file:
        header = file.metadata()
    tensors = load(path.read_bytes())
    save_file({name: tensor for name, tensor in tensors.items() if ".decoder." not in name}, path, header)
    message = r"checkpoint\.safetensors is of another version, whose networks were built otherwise; train it again"
    with pytest.raises(DataError, match=message):
        Checkpoint.open(run).load_network()
    with pytest.raises(DataError, match=message):
        trainer.resume(data, run)


def test_a_target_without_steps_against_a_discriminator_is_refused(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--preset", "mlp", "--adversarial-share", "0", "--adversarial-target", "reconstructions"]
    assert main(["train", *options, "--data", str(small_data), "--out", str(tmp_path / "run")]) == 2
    assert (
        "--adversarial-target is for the steps against a discriminator, and there are none" in capsys.readouterr().err
    )
