"""vae-gen train as its user meets it: options, what it tells, and how it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from vae_gen.cli import main
from vae_gen.data.datasets import DataSet
from vae_gen.errors import DataError, StoppedError
from vae_gen.shell import quoted
from vae_gen_train import nets, trainer
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.metrics_log import read_metrics
from vae_gen_train.progress import Progress

from tests.systems import needs_signals
from tests.train.small_runs import config


def test_every_option_reaches_the_run(small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"--steps": 3, "--batch-size": 5, "--lr": 0.01, "--latent-dim": 2, "--seed": 9, "--device": "cpu"}
    options |= {"--checkpoint-every": 2, "--evaluate-every": 3}
    arguments = [str(item) for pair in options.items() for item in pair]
    run = str(tmp_path / "my run")
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
    assert f"next: vae-gen export {quoted(run)}" in errors

    assert main(["train", "--resume", run, "--data", str(small_data), "--steps", "5", "--quiet"]) == 0
    assert Checkpoint.open(Path(run)).step == 5
    assert capsys.readouterr() == ("", "")
    assert main(["train", "--resume", run, "--data", str(small_data), "--lr", "0.1"]) == 2
    assert "--lr cannot be given with --resume" in capsys.readouterr().err
    for option, name in (("--steps", "steps"), ("--checkpoint-every", "checkpoint-every")):
        assert main(["train", "--resume", run, option, "0"]) == 2
        assert f"{name} is 0; it must be at least 1" in capsys.readouterr().err
    assert main(["train", "--preset", "huge"]) == 2
    assert main(["train", "--preset", "notebook", "--data", str(tmp_path), "--out", str(tmp_path / "no")]) == 1
    assert not (tmp_path / "no").exists()


@pytest.mark.usefixtures("no_report")
def test_every_step_is_told(data: DataSet, tmp_path: Path) -> None:
    steps: list[int] = []
    trainer.train(data, tmp_path / "run", config("notebook", threads=1, log_every=5), Progress(step=steps.append))
    assert steps == list(range(1, 13))


def test_a_run_says_what_begins_and_tensorboard_gets_every_record(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    options = ["--preset", "notebook", "--latent-dim", "3", "--batch-size", "16", "--steps", "2", "--threads", "1"]
    chosen = ["--objective", "bce", "--device", "cpu", "--tensorboard", "--ema", "0.5", "--beta", "2"]
    assert main(["train", "--data", str(small_data), "--out", str(run), *options, *chosen]) == 0
    first, *others = capsys.readouterr().err.splitlines()
    assert first == f"{small_data}: 110 pictures of 12x8 to train on; cpu, 1 thread; 2 steps into {run}"
    assert [line.split()[:3] for line in others[:2]] == [["step", "2", "validation"], ["step", "2", "test"]]
    assert main(["train", "--data", str(small_data), "--resume", str(run), "--beta", "1"]) == 2
    capsys.readouterr()
    assert main(["train", "--resume", str(run)]) == 0
    assert capsys.readouterr().err.splitlines()[0] == first

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    for record in read_metrics(run):
        for name in ("reconstruction", "kl", "total", "sse"):
            points = {event.step: event.value for event in events.Scalars(f"{name}/{record['split']}")}
            assert points[record["step"]] == pytest.approx(record[name], rel=1e-6)


def test_without_tensorboard_the_command_says_what_to_install(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("vae_gen_train.tensorboard", "torch.utils.tensorboard"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    assert main(["train", "--data", str(small_data), "--out", str(tmp_path / "run"), "--tensorboard"]) == 1
    assert "--tensorboard needs TensorBoard, and" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@needs_signals
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_saves_and_stops(small_data: Path, tmp_path: Path, name: str) -> None:
    number = signal.Signals[name]
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


@needs_signals
def test_a_signal_during_the_last_evaluation_saves_and_stops(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    def interrupt(record: dict[str, object]) -> None:
        if record["split"] == "validation":
            os.kill(os.getpid(), signal.SIGINT)
            assert told == [signal.SIGINT]  # at once

    settings = config("notebook", threads=1, steps=2, evaluate_every=100)
    said: list[str] = []
    monkeypatch.setattr("vae_gen_train.advice.overfitting", lambda run, step: f"overfits at {step}")
    with pytest.raises(StoppedError, match="all 2 steps are saved; finish with --resume") as raised:
        trainer.train(data, tmp_path / "run", settings, Progress(interrupt, stopping=told.append, say=said.append))
    assert said == ["overfits at 2"]
    assert raised.value.exit_code == 130
    assert Checkpoint.open(tmp_path / "run").step == 2
    assert not (tmp_path / "run/samples.png").exists()
    trainer.resume(data, tmp_path / "run")
    assert (tmp_path / "run/samples.png").exists()


@pytest.mark.usefixtures("no_report")
def test_a_checkpoint_that_is_replaced_while_it_is_read_is_said_to_be(data: DataSet, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer.train(data, run, config("notebook", threads=1))
    begun = Checkpoint.open(run)
    trainer.resume(data, run, steps=13)
    with pytest.raises(DataError, match=r"checkpoint\.safetensors was replaced while it was read"):
        begun.load_network()
    Checkpoint.open(run).load_network()


@pytest.mark.parametrize("when", ["the network is built", "its prior is"])
def test_too_little_memory_is_told(
    when: str, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nets, "MOST_WEIGHTS", 10**18)  # else no network is too large for the machine of a test
    huge = ["--latent-dim", "100000000000"] if when == "the network is built" else ["--flow-width", "20000000"]
    run = tmp_path / "run"
    run_it = ["train", "--data", str(small_data), "--preset", "mlp", "--steps", "1", "--prior-steps", "1", "--quiet"]
    assert main([*run_it, "--out", str(run), *huge]) == 1
    assert "not enough memory for such steps; begin a run with a smaller --batch-size" in capsys.readouterr().err
    assert run.exists() == (when == "its prior is")
