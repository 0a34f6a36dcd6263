"""An exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def averaged_copy(network: Network) -> Network:
    """A copy of `network` to average into; it starts as the initial weights."""
    average = copy.deepcopy(network)
    average.requires_grad_(False)
    return average


def decay_at(step: int, decay: float) -> float:
    """The share of the old average that is kept after `step`, counted from 1: min(decay, (1 + step) / (10 + step)).

    So the average always spans about the last tenth of a short run, and what is left of the initial weights vanishes
    as step^-9. The correction is that of TensorFlow's ExponentialMovingAverage with num_updates.
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    """Move `average` towards the weights that `network` has after `step`.

    Polyak & Juditsky 1992; with a constant decay as Kingma & Ba 2015, section 7.2, have it.
    """
    mine: list[Tensor] = list(average.parameters())
    current: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(mine, current, 1 - decay_at(step, decay))
    for buffer, newest in zip(average.buffers(), network.buffers(), strict=True):
        buffer.copy_(newest)
