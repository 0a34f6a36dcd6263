"""metrics.jsonl: what a run measured, one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from vae_gen.errors import DataError
from vae_gen.files import is_there, whole_file

FILE_NAME = "metrics.jsonl"
# step, split ("train" for one batch), and what evaluation.Losses has; of split "prior", what prior.Reading has
Record = dict[str, Any]
LOSSES = ("reconstruction", "kl", "total", "sse")
OF_A_SPLIT = {
    "train": LOSSES,
    "validation": LOSSES,
    "test": LOSSES,
    "prior": ("nll",),
}  # what its records have at least


class MetricsLog:
    """The log of a run in progress, a context manager. Each record also goes to `tell`."""

    def __init__(self, run: Path, first_step: int, tell: Callable[[Record], None]) -> None:
        """Open the log of `run`, without what an interrupted run logged after step `first_step`."""
        self._tell = tell
        kept = [record for record in read_metrics(run) if record["step"] <= first_step]
        with whole_file(run / FILE_NAME) as partial:
            partial.write_text("".join(json.dumps(record) + "\n" for record in kept), "utf-8")
        self._file = (run / FILE_NAME).open("a", encoding="utf-8")

    def add(self, step: int, split: str, **numbers: float | None) -> None:
        record = {"step": step, "split": split, **numbers}
        self._file.write(json.dumps(record) + "\n")
        self._tell(record)

    def flush(self) -> None:
        """Let all that was added reach the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def read_metrics(run: Path) -> list[Record]:
    """All whole records of a run's log; none if there is no log. Raises DataError if it cannot be read or is none."""
    records: list[Record] = []
    try:
        lines = (run / FILE_NAME).read_text("utf-8").splitlines() if is_there(run / FILE_NAME) else []
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {run / FILE_NAME}: {error}") from error
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:  # the line that was being written when the machine went down
            break
        if not _is_record(record):
            raise DataError(
                f"{run / FILE_NAME}, line {number}, is nothing that a run logs: {line[:60]}; remove it, or that file"
            )
        records.append(record)
    return records


def _is_record(record: object) -> bool:
    """Whether it has at least what is read from records: a step, and the numbers of its split."""
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        return False
    numbers = OF_A_SPLIT.get(str(record.get("split")))
    return numbers is not None and all(isinstance(record.get(name), int | float) for name in numbers)
