"""What a run tells whoever started it, as it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vae_gen_train.metrics_log import Record


def nothing(*what: object) -> None:
    """For what nobody wants to be told."""


@dataclass(frozen=True)
class Progress:
    """Functions that the run calls, in the first process only; by default they do nothing."""

    record: Callable[[Record], None] = nothing  # with each record of the metrics log
    step: Callable[[int], None] = nothing  # with the number of each step that is done; it should take no time
    say: Callable[[str], None] = nothing  # with words on what is done now, where it takes long and is no step
    stopping: Callable[[int], None] = nothing  # with the number of a signal that arrives; from a signal handler


SILENT = Progress()
