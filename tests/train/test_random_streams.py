"""The random streams of a run: which there are, and that nothing is drawn twice from one state of a generator."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from vae_gen.data.datasets import DataSet
from vae_gen_train import evaluation, random_streams, trainer
from vae_gen_train.distributed import World
from vae_gen_train.random_streams import Stream, seed_torch
from vae_gen_train.step import Stepper

from tests.train.small_runs import config

Use = tuple[int, Stream, tuple[int, ...]]  # the generator's seed, and what it is a function of


@pytest.fixture
def uses(monkeypatch: pytest.MonkeyPatch) -> list[Use]:
    """Fills with each call of seed_torch."""
    found: list[Use] = []

    def recorded(seed: int, stream: Stream, *place: int) -> None:
        seed_torch(seed, stream, *place)
        found.append((torch.initial_seed(), stream, place))

    for name, module in [*sys.modules.items()]:
        if name.startswith("vae_gen_train.") and module is not random_streams and hasattr(module, "seed_torch"):
            monkeypatch.setattr(module, "seed_torch", recorded)
    return found


def assert_apart(uses: list[Use]) -> None:
    """That different keys begin at different states."""
    assert len({state for state, _, _ in uses}) == len({(stream, place) for _, stream, place in uses})


def test_a_seed_s_streams_stay_what_they_were() -> None:
    """Else runs of earlier versions could not be made again."""
    for stream, number in ((Stream.STEPS, 0), (Stream.EVALUATIONS, 1), (Stream.PRIOR, 2), (Stream.DROPOUT, 3)):
        seed_torch(5, stream, 7, 1)
        assert torch.initial_seed() == np.random.SeedSequence((5, number, 7, 1)).generate_state(1, np.uint64)[0]


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("change", [{}, {"accumulate": 2}, {"precision": "bf16"}], ids=str)
def test_a_run_draws_nothing_twice_from_one_state(
    data: DataSet, tmp_path: Path, uses: list[Use], monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    monkeypatch.setattr(evaluation, "BATCH", 7)  # so that a split has several parts
    small = {"steps": 3, "prior_steps": 4, "flow_couplings": 1, "flow_width": 4, "threads": 1, "evaluate_every": 2}
    trainer.train(data, tmp_path / "run", config("notebook-relu", **small, **change))
    assert_apart(uses)
    assert {stream for _, stream, _ in uses} == {*Stream} - (set() if change else {Stream.DROPOUT})
    times = Counter((stream, place) for _, stream, place in uses)
    repeated = {stream for (stream, _), count in times.items() if count > 1}
    assert repeated == {Stream.EVALUATIONS}  # which compare by it


def test_processes_draw_what_is_not_shared_from_states_of_their_own(uses: list[Use]) -> None:
    for rank in (0, 1):
        stepper = Stepper.__new__(Stepper)
        stepper.config = config("notebook-relu", accumulate=2, processes=2)
        stepper.device, stepper.world = torch.device("cpu"), World(rank, 2, rank, 2)
        for step in (1, 2):
            list(stepper._shares(step, np.arange(16)))
    assert_apart(uses)
    times = Counter((stream, place) for _, stream, place in uses)
    # Each draws the whole batch's noise, and takes its rows.
    assert {stream: count for (stream, _), count in times.items()} == {Stream.STEPS: 2, Stream.DROPOUT: 1}
    assert len(times) == 2 + 2 * 4
