"""Whether a run notices that its threads do not get their processors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from vae_gen.data.datasets import DataSet
from vae_gen.shell import quoted
from vae_gen_train import contention, trainer
from vae_gen_train.contention import Contention, Usage
from vae_gen_train.progress import Progress

from tests.train.small_runs import config


def measured(monkeypatch: pytest.MonkeyPatch, *usages: Usage | None) -> None:
    """Let a process's usage be these, one after the other."""
    following = iter(usages)
    monkeypatch.setattr(contention, "usage", lambda: next(following))


@pytest.mark.parametrize(
    ("threads", "seconds", "processors", "preemptions", "better"),
    [
        (2, 30, 55, 3000, None),  # undisturbed
        (2, 30, 20, 6000, 1),  # two threads and three others on two processors: measured
        (16, 30, 400, 6000, None),
        (16, 30, 300, 6000, 10),
        (1, 30, 10, 6000, None),  # there are no fewer
        (2, 30, 20, 60, None),  # waiting for a disk
        (2, 10, 7, 6000, None),  # not yet
    ],
)
def test_fewer_threads_are_advised_where_others_take_the_processors(
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    seconds: float,
    processors: float,
    preemptions: int,
    better: int | None,
) -> None:
    measured(monkeypatch, Usage(5.0, 7.0, 11), Usage(5.0 + seconds, 7.0 + processors, 11 + preemptions))
    assert Contention(threads).better_threads() == better


def test_each_look_is_at_what_was_since_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, Usage(0, 0, 0), Usage(30, 60, 0), Usage(60, 80, 6000), Usage(90, 140, 6000))
    looks = Contention(2)
    assert [looks.better_threads() for _ in range(3)] == [None, 1, None]


def test_nothing_is_said_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, None, None)
    assert Contention(2).better_threads() is None


@pytest.mark.skipif(os.name == "nt", reason="the system does not tell")
def test_a_process_s_own_usage_grows() -> None:
    before, after = contention.usage(), contention.usage()
    assert before is not None
    assert after is not None
    assert (before.wall, before.processors, before.preemptions) <= (after.wall, after.processors, after.preemptions)


def test_a_run_says_so_once(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, *(Usage(number * 30, number * 20, number * 6000) for number in range(1000)))
    said: list[str] = []
    trainer.train(data, tmp_path / "my run", config(threads=2), Progress(say=said.append))
    (message,) = (each for each in said if "threads" in each)
    assert message == (
        "other processes keep the 2 threads from running together, and each waits for the others; fewer may be much "
        f"faster: Ctrl-C, then vae-gen train --resume {quoted(tmp_path / 'my run')} --threads 1"
    )
