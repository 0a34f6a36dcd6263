from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from vae_gen.cli import main
from vae_gen.datasets import DataSet, load_idx_directory
from vae_gen.errors import DataError, OutputError, UsageError, VaeGenError
from vae_gen_train import trainer
from vae_gen_train.batches import batches
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.config import TrainConfig, preset_names
from vae_gen_train.evaluation import evaluate, latent_statistics, seed_torch
from vae_gen_train.metrics_log import read_metrics
from vae_gen_train.nets import build
from vae_gen_train.progress import Progress
from vae_gen_train.step import STREAM

SMALL = {"steps": 12, "batch_size": 16, "latent_dim": 3, "lr": 1e-3}


@pytest.fixture
def data(small_data: Path) -> DataSet:
    return load_idx_directory(small_data)


def config(preset: str = "notebook-relu", **changes: object) -> TrainConfig:
    every = {"log_every": 1, "evaluate_every": 4, "checkpoint_every": 5, "picture_every": 6}
    return TrainConfig.from_preset(preset, **SMALL | every | changes)


def comparable(run: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, object]]]:
    """All of a run that must not depend on how often it was stopped."""
    records = [{key: value for key, value in record.items() if key != "seconds"} for record in read_metrics(run)]
    return load_file(run / "checkpoint.safetensors"), records


def assert_same_run(one: Path, other: Path) -> None:
    tensors, records = comparable(one)
    other_tensors, other_records = comparable(other)
    assert tensors.keys() == other_tensors.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], other_tensors[name])] == []
    assert records == other_records


class CrashError(Exception):
    """A crash at a moment that a test chooses."""


@pytest.mark.parametrize("name", ["notebook", "notebook-relu"])
def test_presets_are_the_notebooks_settings(name: str) -> None:
    found = TrainConfig.from_preset(name)
    assert (found.network, found.latent_dim, found.batch_size, found.lr, found.steps) == (name, 8, 64, 5e-4, 30_000)
    assert name in preset_names()


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
    assert written["packages"]["torch"] == torch.__version__
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


def weights(run: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(run / "checkpoint.safetensors")
    return {name.removeprefix("network."): tensor for name, tensor in tensors.items() if name.startswith("network.")}


def test_training_is_adam_on_squared_errors_plus_kl(data: DataSet, tmp_path: Path) -> None:
    """Three steps, against the loss and Adam (Kingma & Ba 2015, algorithm 1) written out."""
    trainer.train(data, tmp_path / "run", config("notebook", steps=3, lr=2e-3))

    torch.manual_seed(0)
    vae = build("notebook", (1, 12, 8), 3)
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in vae.named_parameters()}
    order = batches(seed=0, images=len(data.train), batch_size=16, first_step=0)
    for step in (1, 2, 3):
        seed_torch(0, STREAM, step)
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
    found = weights(tmp_path / "run")
    assert found.keys() == dict(vae.named_parameters()).keys()
    for name, parameter in vae.named_parameters():
        # Where a gradient is nearly nothing, Adam turns its rounding errors into steps.
        close = torch.isclose(found[name], parameter, rtol=1e-3, atol=1e-4)
        assert close.float().mean() > 0.999, name


@pytest.mark.parametrize("change", [{"lr": 2e-3}, {"batch_size": 8}, {"seed": 1}])
def test_every_setting_changes_what_is_learned(data: DataSet, tmp_path: Path, change: dict[str, object]) -> None:
    trainer.train(data, tmp_path / "one", config(steps=2))
    trainer.train(data, tmp_path / "other", config(steps=2, **change))
    one, other = weights(tmp_path / "one"), weights(tmp_path / "other")
    assert not torch.equal(one["decoder.0.weight"], other["decoder.0.weight"])


def test_losses_that_are_not_finite_end_the_run(data: DataSet, tmp_path: Path) -> None:
    with pytest.raises(VaeGenError, match=r"training diverged at step \d+: .*--lr below 0\.9"):
        trainer.train(data, tmp_path / "run", config(steps=2000, lr=0.9, checkpoint_every=1))
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run").values())
    assert all(np.isfinite(record["total"]) for record in read_metrics(tmp_path / "run"))


def test_threads_are_kept_by_resume(data: DataSet, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    trainer.train(data, tmp_path / "run", config(steps=2, threads=1))
    torch.set_num_threads(2)
    trainer.resume(data, tmp_path / "run", steps=3)
    assert torch.get_num_threads() == Checkpoint.open(tmp_path / "run").config.threads == 1
    assert json.loads((tmp_path / "run/config.json").read_text())["config"]["steps"] == 3
    torch.set_num_threads(before)


def test_a_checkpoint_that_cannot_be_written_is_named(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"cannot write .*checkpoint\.safetensors: No space left on device"):
        trainer.train(data, tmp_path / "run", config())
    assert not list((tmp_path / "run").glob("*checkpoint*"))


def test_a_run_is_one_process_s_at_a_time(data: DataSet, tmp_path: Path) -> None:
    refused: list[int] = []

    def interfere(step: int) -> None:
        if step != 2:
            return
        with pytest.raises(OutputError, match=r"another process is at work on .*run"):
            trainer.resume(data, tmp_path / "run")
        with pytest.raises(OutputError, match=r"another process is at work on .*run"):
            trainer.train(data, tmp_path / "run", config())
        refused.append(step)

    trainer.train(data, tmp_path / "run", config(), Progress(step=interfere))
    assert refused == [2]
    assert not list((tmp_path / "run").glob(".*"))


def test_a_configuration_that_cannot_be_written_leaves_the_one_before(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.train(data, tmp_path / "run", config())
    before = (tmp_path / "run/config.json").read_bytes()

    def fill(path: Path, text: str, encoding: str) -> None:
        path.write_bytes(text[:20].encode(encoding))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(OutputError, match=r"config\.json: No space left on device"):
        trainer.resume(data, tmp_path / "run")
    assert (tmp_path / "run/config.json").read_bytes() == before


@pytest.mark.parametrize("preset", ["notebook", "notebook-relu"])
@pytest.mark.parametrize("crash_at", [3, 5, 9])
def test_a_run_that_was_killed_and_resumed_is_bit_identical(
    data: DataSet, tmp_path: Path, preset: str, crash_at: int
) -> None:
    def crash(record: dict[str, object]) -> None:
        if record["step"] == crash_at:
            raise CrashError

    trainer.train(data, tmp_path / "whole", config(preset, checkpoint_every=2))
    with pytest.raises(CrashError):
        trainer.train(data, tmp_path / "killed", config(preset, checkpoint_every=2), Progress(crash))
    with (tmp_path / "killed/metrics.jsonl").open("a") as log:
        log.write('{"step": 9, "spl')  # the line that was being written
    torch.manual_seed(99)  # a new process has other random numbers
    trainer.resume(data, tmp_path / "killed")
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_more_steps_go_on_as_if_they_had_been_asked_for_at_once(data: DataSet, tmp_path: Path) -> None:
    quiet = {"evaluate_every": 1000, "checkpoint_every": 1000}
    trainer.train(data, tmp_path / "long", config(steps=7, **quiet))
    trainer.train(data, tmp_path / "short", config(steps=4, **quiet))
    trainer.resume(data, tmp_path / "short", steps=7)
    long, short = (comparable(tmp_path / name)[0] for name in ("long", "short"))
    assert [name for name in long if not torch.equal(long[name], short[name])] == []


def test_a_finished_run_only_gets_its_report_again(data: DataSet, tmp_path: Path) -> None:
    trainer.train(data, tmp_path / "run", config())
    before = (tmp_path / "run/checkpoint.safetensors").read_bytes(), (tmp_path / "run/metrics.jsonl").read_bytes()
    (tmp_path / "run/loss-curve.png").unlink()
    trainer.resume(data, tmp_path / "run")
    after = (tmp_path / "run/checkpoint.safetensors").read_bytes(), (tmp_path / "run/metrics.jsonl").read_bytes()
    assert after == before
    assert (tmp_path / "run/loss-curve.png").is_file()


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


def test_training_sees_training_images_only(data: DataSet, tmp_path: Path) -> None:
    spoiled = DataSet(data.sha256, data.test_sha256, data.train, 255 - data.validation, 255 - data.test)
    trainer.train(data, tmp_path / "a", config())
    trainer.train(spoiled, tmp_path / "b", config())
    a, b = (load_file(tmp_path / name / "checkpoint.safetensors") for name in "ab")
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_what_cannot_go_on_is_refused(data: DataSet, small_data: Path, tmp_path: Path) -> None:
    trainer.train(data, tmp_path / "run", config())
    with pytest.raises(OutputError, match=r"run is not empty; .*--resume"):
        trainer.train(data, tmp_path / "run", config())
    with pytest.raises(UsageError, match="has already done 12"):
        trainer.resume(data, tmp_path / "run", steps=5)
    other = DataSet("0" * 64, None, 255 - data.train, data.validation, data.test)
    with pytest.raises(UsageError, match="was begun with other data"):
        trainer.resume(other, tmp_path / "run")
    with pytest.raises(DataError, match=r"is no training run: it has no checkpoint\.safetensors"):
        trainer.resume(data, tmp_path)
    path = tmp_path / "run" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"checkpoint\.safetensors is damaged or of another version"):
        trainer.resume(data, tmp_path / "run")
    with pytest.raises(UsageError, match="device 'tpu' cannot be used here"):
        trainer.train(data, tmp_path / "new", config(device="tpu"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"batch_size": -1}, "batch-size is -1"),
        ({"latent_dim": 0}, "latent-dim is 0"),
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


# the command


def test_every_option_reaches_the_run(small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"--steps": 3, "--batch-size": 5, "--lr": 0.01, "--latent-dim": 2, "--seed": 9, "--device": "cpu"}
    arguments = [str(item) for pair in options.items() for item in pair]
    run = str(tmp_path / "run")
    threads = torch.get_num_threads()
    status = main(
        ["train", "--preset", "notebook-relu", "--data", str(small_data), "--out", run, "--threads", "1", *arguments]
    )
    assert status == 0
    assert torch.get_num_threads() == 1
    torch.set_num_threads(threads)
    found = Checkpoint.open(Path(run)).config.as_dict()
    expected = {"preset": "notebook-relu", "network": "notebook-relu"}
    expected |= {name.lstrip("-").replace("-", "_"): value for name, value in options.items()}
    assert {name: found[name] for name in expected} == expected
    errors = capsys.readouterr().err
    assert "step      3  test        reconstruction" in errors
    assert f"next: vae-gen export {run}" in errors

    assert main(["train", "--resume", run, "--data", str(small_data), "--steps", "5", "--quiet"]) == 0
    assert Checkpoint.open(Path(run)).step == 5
    assert capsys.readouterr() == ("", "")
    assert main(["train", "--resume", run, "--data", str(small_data), "--lr", "0.1"]) == 2
    assert "--lr cannot be given with --resume" in capsys.readouterr().err
    assert main(["train", "--preset", "huge"]) == 2
    assert main(["train", "--preset", "notebook", "--data", str(tmp_path), "--out", str(tmp_path / "no")]) == 1
    assert not (tmp_path / "no").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals work otherwise there")
def test_a_process_that_was_killed_goes_on_in_another(small_data: Path, tmp_path: Path) -> None:
    options = ["--data", str(small_data), "--preset", "notebook-relu", "--latent-dim", "3", "--batch-size", "4"]
    train = [sys.executable, "-m", "vae_gen", "train", "--quiet"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    with subprocess.Popen([*train, *options, "--threads", "1", "--steps", "100000", "--out", str(killed)]) as process:
        deadline = time.monotonic() + 60
        while not (killed / "reconstructions/step-000200.png").exists():  # in the midst of it
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
    assert Checkpoint.open(killed).step == 0
    # As if it had been asked for 20 steps only, which a killed run forgot with all that it had not saved.
    subprocess.run([*train, "--data", str(small_data), "--resume", str(killed), "--steps", "20"], check=True)
    subprocess.run([*train, *options, "--threads", "1", "--steps", "20", "--out", str(whole)], check=True)
    assert_same_run(killed, whole)


@pytest.mark.skipif(os.name == "nt", reason="signals work otherwise there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_stops(small_data: Path, tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    options = ["--data", str(small_data), "--out", str(run), "--steps", "1000000", "--batch-size", "4"]
    # Under nohup the tests themselves ignore one of the signals, and so would the process.
    heed = f"import signal, sys; signal.signal({int(number)}, signal.SIG_DFL); from vae_gen.cli import main; "
    command = [sys.executable, "-c", heed + "sys.exit(main(sys.argv[1:]))", "train", "--preset", "notebook", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (run / "checkpoint.safetensors").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    step = Checkpoint.open(run).step
    assert f"Stopped: step {step} of 1000000 is saved; go on with --resume {run}" in errors
    assert "Traceback" not in errors
    assert step > 0
