"""What a run is told of itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from vae_gen.errors import UsageError
from vae_gen_train.advice import memory, overfitted_prior, overfitting, sameness
from vae_gen_train.allocation import physical_memory
from vae_gen_train.config import TrainConfig

from tests.train.test_metrics_log import LOSSES, PRIOR, log


@pytest.mark.parametrize(
    ("preset", "size", "changes", "told"),
    [
        ("conv", (256, 256), {}, ""),  # 2.9 GB
        ("conv", (380, 380), {}, "compute 64 images of 380x380 at a time, which takes some 6 GB of memory; with "
         "--accumulate 2 it is 32 at a time and some 3.2 GB"),
        ("conv", (1000, 1000), {}, "some 45 GB of memory; with --accumulate 16 it is 4 at a time and some 2.8 GB"),
        ("conv", (1000, 1000), {"accumulate": 16}, ""),
        ("conv", (1000, 2000), {"accumulate": 2, "processes": 2}, "compute 16 images of 1000x2000 at a time, which "
         "takes some 22 GB of memory; with --accumulate 16 it is 2 at a time and some 2.8 GB"),
        ("conv", (4000, 4000), {"batch_size": 3}, "some 34 GB of memory; with --accumulate 3 it is 1 at a time and "
         "some 11.2 GB"),
        ("conv", (2400, 2400), {"batch_size": 1}, "compute 1 image of 2400x2400 at a time, which takes some 4 GB of "
         "memory; a smaller --image-size takes less"),
        ("mlp", (1000, 1000), {}, ""),
    ],
)  # fmt: skip
def test_much_memory_is_told(preset: str, size: tuple[int, int], changes: dict[str, int], told: str) -> None:
    said = memory(TrainConfig.from_preset(preset, **changes), (1, *size))
    assert told in said
    assert bool(said) == bool(told)


def test_more_memory_than_there_is_is_refused() -> None:
    config = TrainConfig.from_preset("conv")
    assert memory(config, (1, 380, 380), 7e9) == memory(config, (1, 380, 380))
    with pytest.raises(UsageError, match=r"takes some 6 GB of memory; with --accumulate 2 .*This machine has 5 GB"):
        memory(config, (1, 380, 380), 5e9)
    assert 10**8 < physical_memory() < 10**15


@pytest.mark.parametrize(
    ("pixels", "told"),
    [
        ([0, 0], "the 2,500 training images are all the same (every pixel is 0 of 255), so that there is nothing"),
        ([3, 200], "the 2,500 training images are all the same (the same to the pixel), so that there is nothing"),
    ],
)
def test_images_that_are_all_the_same_are_told(pixels: list[int], told: str) -> None:
    images = np.tile(np.uint8(pixels), (2500, 1, 1, 1))
    assert sameness(images).startswith(told)
    images[2499, 0, 0, 1] += 1
    assert sameness(images) == ""


@pytest.mark.parametrize(
    ("totals", "told"),
    [
        (
            [50.0, 30.0, 32.0],
            "was 30.00 at step 2,000 and is 32.00 at step 3,000; more pictures help, or fewer steps (--steps 2000)",
        ),
        ([-20.0, -27.1, 2.9], "was -27.10 at step 2,000 and is 2.90 at step 3,000"),
        ([50.0, 30.0, 30.9], ""),  # by a nat
        ([-700.0, -770.0, -760.0], ""),  # by little
        ([50.0, 40.0, 30.0], ""),
        ([], ""),
    ],
)
def test_overfitting_is_told_by_the_validation_images(tmp_path: Path, totals: list[float], told: str) -> None:
    records = [
        {**LOSSES, "step": 1000 * step, "split": "validation", "total": total} for step, total in enumerate(totals, 1)
    ]
    said = overfitting(log(tmp_path, LOSSES, *records, PRIOR, {**LOSSES, "step": 9000, "split": "validation"}), 3000)
    assert told in said
    assert bool(said) == bool(told)


@pytest.mark.parametrize(
    ("before", "after", "worse", "told"),
    [
        (
            0.52,
            7.18,
            9.0,
            "was 0.52 at step 2,000 and is 7.18 at step 9,000; more pictures help, or fewer of its steps "
            "(vae-gen train --resume {run} --prior-steps 1750)",
        ),
        (5.55, 5.85, 40.0, ""),
        (5.55, 1.0, 9.0, ""),
        (None, 7.0, 9.0, ""),
        (1.85, 3.10, -0.5, ""),  # posteriors are wider, and the loss is lower
        (0.0, 0.001, 0.5, ""),
    ],
)
def test_a_prior_that_overfits_is_told(
    tmp_path: Path, before: float | None, after: float, worse: float, told: str
) -> None:
    errors = [(1000, 100.0, 5.0), (2000, before, 1.0), (9000, after, 1.0 + worse)]
    records = [
        {**LOSSES, "step": step, "split": "validation", "sse": sse, "total": total}
        for step, sse, total in errors
        if sse is not None
    ]
    said = overfitted_prior(log(tmp_path, *records, PRIOR), 2000)
    assert told.format(run=tmp_path) in said
    assert bool(said) == bool(told)


def test_where_no_fewer_steps_are_left_none_are_advised(tmp_path: Path) -> None:
    errors = [(2000, 0.5, 1.0), (2003, 7.0, 9.0)]
    records = [
        {**LOSSES, "step": step, "split": "validation", "sse": sse, "total": total} for step, sse, total in errors
    ]
    assert overfitted_prior(log(tmp_path, *records, PRIOR), 2000).endswith("more pictures help, or fewer of its steps")


def test_a_prior_without_evaluations_is_not_judged(tmp_path: Path) -> None:
    assert overfitted_prior(log(tmp_path, LOSSES, PRIOR), 2000) == ""
