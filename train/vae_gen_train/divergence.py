"""Noticing that a run has diverged, without waiting for a GPU."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from torch import Tensor
from vae_gen.errors import VaeGenError
from vae_gen.files import whole_file

from vae_gen_train.config import TrainConfig
from vae_gen_train.step import Reading

FILE_NAME = "diverged.json"
SHOWN = 8  # images that the message names; the file has all


class Watch:
    """Looks at every step's losses and gradient norm, and ends the run when one is not finite.

    On a CPU it looks before the weights change. On a GPU it looks a step later, so that the GPU always has work;
    nothing is logged or saved in between.
    """

    def __init__(self, run: Path, weights: Iterable[Tensor], config: TrainConfig, writes: bool) -> None:
        self.run, self.weights, self.config, self.writes = run, list(weights), config, writes
        self.previous: Reading | None = None
        self.newest: Reading | None = None

    def look(self, reading: Reading) -> None:
        """Take note of the newest step, before the weights change. Raises VaeGenError as `settle` does."""
        self.previous, self.newest = self.newest, reading
        if reading.is_here:
            self.settle()
        elif self.previous is not None:
            self._judge(self.previous, None)

    def settle(self) -> None:
        """Raise VaeGenError, with the step and its images, if anything noted was not finite."""
        if self.newest is not None:
            self._judge(self.newest, self.previous)

    def check_weights(self) -> None:
        """Raise VaeGenError if weights are not finite, so that no checkpoint has them."""
        if self.newest is not None and not self._weights_are_finite():
            self._stop(self.newest, "its gradients made the weights infinite")

    def _judge(self, reading: Reading, before: Reading | None) -> None:
        losses, norm = reading.losses, reading.gradient_norm
        if math.isfinite(losses.total) and math.isfinite(norm):
            return
        # Where norms are not measured, a step's gradients show in the next step's loss.
        if before is not None and norm == 0 and not self._weights_are_finite():
            self._stop(before, "its gradients made the weights infinite")
        named = {"reconstruction": losses.reconstruction, "KL": losses.kl, "gradient norm": norm}
        self._stop(reading, ", ".join(f"{name} {value:g}" for name, value in named.items()))

    def _weights_are_finite(self) -> bool:
        return all(bool(weight.isfinite().all()) for weight in self.weights)

    def _stop(self, reading: Reading, reason: str) -> NoReturn:
        images = reading.indices.tolist()
        if self.writes:
            with whole_file(self.run / FILE_NAME) as partial:
                partial.write_text(json.dumps({"step": reading.step, "reason": reason, "images": images}), "utf-8")
        shown = ", ".join(map(str, images[:SHOWN])) + (", ..." if len(images) > SHOWN else "")
        precision = ", or with --precision fp32" if self.config.precision != "fp32" else ""
        raise VaeGenError(
            f"training diverged at step {reading.step}: {reason}. Its batch had the training images {shown} "
            f"(all are in {self.run / FILE_NAME}). Begin again with an --lr below {self.config.lr:g}, with "
            f"--lr-warmup 1000, or with --clip-norm 1{precision}. The last checkpoint in {self.run} is from before"
        )
