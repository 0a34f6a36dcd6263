"""What is read of a run's log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from vae_gen.errors import DataError
from vae_gen_train.metrics_log import read_metrics

LOSSES = {"step": 5, "split": "train", "reconstruction": 2, "kl": 1.0, "total": 3.0, "sse": 2.0}
PRIOR = {"step": 9, "split": "prior", "nll": 1.5, "discriminator": None}


def log(tmp_path: Path, *records: object, end: str = "") -> Path:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + end)
    return tmp_path


def test_whole_records_are_read_up_to_a_line_that_was_cut(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
    assert read_metrics(log(tmp_path, LOSSES, PRIOR, end='{"step": 1')) == [LOSSES, PRIOR]


@pytest.mark.parametrize(
    "record",
    [
        [],
        5,
        {},
        {**LOSSES, "step": "5"},
        {**LOSSES, "split": "dream"},
        {**LOSSES, "kl": None},
        {**LOSSES, "sse": None},
        {**PRIOR, "nll": "1"},
    ],
    ids=str,
)
def test_what_no_run_logs_is_named(tmp_path: Path, record: object) -> None:
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2, is nothing that a run logs: .*; remove it, or that"):
        read_metrics(log(tmp_path, LOSSES, record, PRIOR))
