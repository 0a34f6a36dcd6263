"""A run that goes on: after a crash, a kill, or when more of it is asked for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from vae_gen.cli import main
from vae_gen.data.datasets import DataSet
from vae_gen.errors import DataError, OutputError, UsageError
from vae_gen_train import checkpoint, distributed, trainer
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.metrics_log import read_metrics
from vae_gen_train.progress import Progress

from tests.systems import needs_signals
from tests.train.small_runs import CrashError, assert_same_run, comparable, config


def test_threads_are_kept_by_resume(data: DataSet, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    trainer.train(data, tmp_path / "run", config(steps=2, threads=1))
    torch.set_num_threads(2)
    trainer.resume(data, tmp_path / "run", steps=3)
    assert torch.get_num_threads() == Checkpoint.open(tmp_path / "run").config.threads == 1
    assert json.loads((tmp_path / "run/config.json").read_text())["config"]["steps"] == 3
    torch.set_num_threads(before)


@pytest.mark.usefixtures("no_report")
def test_threads_that_are_kept_are_told_where_a_new_run_had_others(
    data: DataSet,
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    trainer.train(data, run, config(steps=2, threads=1))
    resume = ["train", "--data", str(small_data), "--resume", str(run)]
    threads = torch.get_num_threads()

    def told(usable: int, *options: str) -> list[str]:
        monkeypatch.setattr(distributed, "usable_cpus", lambda: usable)
        assert main([*resume, *options]) == 0
        return [line for line in capsys.readouterr().err.splitlines() if "goes on with" in line]

    kept = f"{run} goes on with 1 thread, as before; this process may use 5 processors: "
    assert told(5, "--steps", "3") == [f"{kept}--threads 5 takes as many, and rounds otherwise"]
    assert told(5) == []  # it is finished
    assert (
        told(1, "--steps", "4") == told(5, "--steps", "5", "--quiet") == told(5, "--steps", "6", "--threads", "2") == []
    )
    kept = f"{run} goes on with 2 threads, as before; this process may use 1 processor: "
    assert told(1, "--steps", "7") == [f"{kept}--threads 1 takes as many, and rounds otherwise"]
    torch.set_num_threads(threads)


def test_a_run_is_one_process_s_at_a_time(data: DataSet, tmp_path: Path) -> None:
    run = tmp_path / "run"
    another = f"^another process is training in {re.escape(str(run))}; "
    refused: list[int] = []

    def interfere(step: int) -> None:
        if step != 2:
            return
        with pytest.raises(OutputError, match=another + "wait for it, or end it: Ctrl-C"):
            trainer.resume(data, run)
        with pytest.raises(OutputError, match=another + "choose another --out$"):
            trainer.train(data, run, config())
        refused.append(step)

    trainer.train(data, run, config(), Progress(step=interfere))
    assert refused == [2]
    assert not list(run.glob(".*"))


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


@pytest.mark.usefixtures("no_report")
def test_how_often_a_run_saves_and_evaluates_does_not_change_what_it_learns(
    data: DataSet, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, averaged weights, a prior and its discriminator, which all draw random numbers."""
    prior = {"prior_steps": 6, "flow_couplings": 1, "flow_width": 4, "adversarial_share": 0.5, "lr_warmup": 0}
    settings = {"threads": 1, "steps": 8, "ema": 0.9, "evaluate_every": 100, "checkpoint_every": 100} | prior
    rare, often, changed = (tmp_path / name for name in ("rare", "often", "changed"))
    saved: list[int] = []
    save = checkpoint.save

    def noted(*arguments: object, step: int, **state: object) -> None:
        saved.append(step)
        save(*arguments, step=step, **state)

    def crash(step: int) -> None:
        if step == 11:
            raise CrashError

    def evaluated(run: Path) -> list[object]:
        return [record["step"] for record in read_metrics(run) if record["split"] == "test"]

    monkeypatch.setattr(checkpoint, "save", noted)
    trainer.train(data, rare, config(**settings))
    assert (saved, evaluated(rare)) == ([0, 8, 14, 14], [8, 14])  # again when the posteriors' variances are found
    saved.clear()
    trainer.train(data, often, config(**settings | {"evaluate_every": 3, "checkpoint_every": 5}))
    assert (saved, evaluated(often)) == ([0, 5, 8, 10, 14, 14], [3, 6, 8, 14])

    with pytest.raises(CrashError):
        trainer.train(data, changed, config(**settings | {"checkpoint_every": 3}), Progress(step=crash))
    saved.clear()
    resume = ["train", "--data", str(small_data), "--quiet", "--resume", str(changed)]
    assert main([*resume, "--checkpoint-every", "2", "--evaluate-every", "7"]) == 0
    assert saved == [10, 12, 14, 14]
    found = Checkpoint.open(changed).config
    assert (found.checkpoint_every, found.evaluate_every) == (2, 7)

    expected = load_file(rare / "checkpoint.safetensors")
    for run in (often, changed):
        tensors = load_file(run / "checkpoint.safetensors")
        assert tensors.keys() == expected.keys()
        assert [name for name in expected if not torch.equal(tensors[name], expected[name])] == []


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


@needs_signals
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


def test_only_what_can_change_is_changed(data: DataSet, tmp_path: Path) -> None:
    trainer.train(data, tmp_path / "run", config("notebook", threads=1, steps=2))
    with pytest.raises(TypeError, match=r"lr cannot change; steps, prior_steps, .* can"):
        trainer.resume(data, tmp_path / "run", lr=0.5)
    trainer.resume(data, tmp_path / "run", steps=3, device=None)
    assert Checkpoint.open(tmp_path / "run").step == 3
