"""The metrics log, for TensorBoard."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from vae_gen_train.metrics_log import Record

FOLDER = "tensorboard"


class TensorBoard:
    """Writes records of the metrics log into a folder of the run's directory, `tensorboard`."""

    def __init__(self, run: Path) -> None:
        self._folder = run / FOLDER
        self._writer: SummaryWriter | None = None

    def record(self, record: Record) -> None:
        """One point per loss and split; the first record hides what an interrupted run wrote from its step on."""
        if self._writer is None:  # not before the run has looked whether its directory is empty
            self._writer = SummaryWriter(str(self._folder), purge_step=record["step"])
        for name, value in record.items():
            if name not in ("step", "split", "seconds") and value is not None:
                self._writer.add_scalar(f"{name}/{record['split']}", value, record["step"])
        if record["split"] not in ("train", "prior"):
            self._writer.flush()
