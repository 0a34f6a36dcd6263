"""What changes from step to step: the learning rate and the weight of the KL divergence. Steps count from 1."""

from __future__ import annotations

import math

from vae_gen_train.config import TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """Adam's learning rate at `step`.

    It rises linearly over the first `lr_warmup` steps to `lr` (Goyal et al. 2017, section 2.2), and then stays, or
    falls along half a cosine to 0 at the last step (Loshchilov & Hutter 2017, "SGDR", eq. 5, without restarts).
    """
    if step < config.lr_warmup:
        return config.lr * step / config.lr_warmup
    if config.lr_schedule == "constant":
        return config.lr
    done = (step - config.lr_warmup) / max(1, config.steps - config.lr_warmup)
    return config.lr * (1 + math.cos(math.pi * min(1.0, done))) / 2


def kl_weight(config: TrainConfig, step: int) -> float:
    """The weight of the KL divergence at `step`: rising linearly to beta over the first `kl_warmup` steps.

    Bowman et al. 2016, "Generating Sentences from a Continuous Space", section 3.1.
    """
    return config.beta * min(1.0, step / config.kl_warmup) if config.kl_warmup else config.beta
