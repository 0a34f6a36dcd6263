"""Noticing that a run has diverged, without waiting for a GPU."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor
from vae_gen.errors import VaeGenError
from vae_gen.files import whole_file

from vae_gen_train.config import TrainConfig
from vae_gen_train.step import Reading

FILE_NAME = "diverged.json"
INFINITE_WEIGHTS = "its gradients made the weights infinite"
LONG_WARMUP = 1000  # steps
SHOWN = 8  # images that the message names; the file has all


class Watch:
    """Looks at the losses and the gradient norm of every step, and ends the run when one is not finite.

    On a CPU it looks before the weights change. A GPU would have to be waited for, so there it looks at all steps since
    the last time when something is to be logged, drawn or saved.
    """

    def __init__(
        self, run: Path, weights: Iterable[Tensor], config: TrainConfig, device: torch.device, writes: bool
    ) -> None:
        self.run, self.weights, self.config, self.writes = run, list(weights), config, writes
        self.at_once = device.type == "cpu"
        self.newest: Reading | None = None
        self._unjudged: list[Reading] = []

    def look(self, reading: Reading) -> None:
        """Take note of the newest step, before the weights change. Raises VaeGenError as `settle` does."""
        self._unjudged.append(reading)
        if self.at_once:
            self._judge_all()

    def settle(self) -> None:
        """Raise VaeGenError, with the step and its images, if anything noted was not finite, or if weights are not."""
        self._judge_all()
        if self.newest is not None and not self._weights_are_finite():
            self._stop(self.newest, INFINITE_WEIGHTS)

    def _judge_all(self) -> None:
        if self._unjudged:
            found = torch.stack([reading.numbers for reading in self._unjudged]).cpu().tolist()  # waits, once
            for reading, numbers in zip(self._unjudged, found, strict=True):
                self._judge(reading, *numbers)
                self.newest = reading
            self._unjudged.clear()

    def _judge(
        self, reading: Reading, reconstruction: float, kl: float, penalty: float, _sse: float, norm: float
    ) -> None:
        if math.isfinite(reconstruction + penalty) and math.isfinite(norm):
            return
        # Where norms are not measured, a step's gradients show in the next step's loss.
        if self.newest is not None and norm == 0 and not self._weights_are_finite():
            self._stop(self.newest, INFINITE_WEIGHTS)
        named = {"reconstruction": reconstruction, "KL": kl} | ({"gradient norm": norm} if norm else {})
        self._stop(reading, ", ".join(f"{name} {value:g}" for name, value in named.items()))

    def _weights_are_finite(self) -> bool:
        return all(bool(weight.isfinite().all()) for weight in self.weights)

    def _stop(self, reading: Reading, reason: str) -> NoReturn:
        images = reading.indices.tolist()
        if self.writes:
            with whole_file(self.run / FILE_NAME) as partial:
                partial.write_text(json.dumps({"step": reading.step, "reason": reason, "images": images}), "utf-8")
        shown = ", ".join(map(str, images[:SHOWN])) + (", ..." if len(images) > SHOWN else "")
        warmup = max(1, min(LONG_WARMUP, self.config.steps // 2))
        precision = ", or with --precision fp32" if self.config.precision != "fp32" else ""
        raise VaeGenError(
            f"training diverged at step {reading.step}: {reason}. Its batch had the training images {shown} "
            f"(all are in {self.run / FILE_NAME}). Begin again with an --lr below {self.config.lr:g}, with "
            f"--lr-warmup {warmup}, or with --clip-norm 1{precision}. The last checkpoint in {self.run} is from before"
        )
