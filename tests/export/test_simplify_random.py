"""Simplification of random chains of layers: the same as PyTorch computes, at no greater cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from vae_gen_export.simplify.costs import total_multiply_adds
from vae_gen_export.simplify.view import View
from vae_gen_train.nets import SameConvTranspose2d

from tests.export.simplification import Fixed, norm, operations, simplified

FIXED = ["crop", "channels", "scale", "shift", "scale all", "shift all", "turn", "negate", "divide", "residual"]


def random_layer(random: np.random.Generator, channels: int, shape: tuple[int, ...]) -> nn.Module:
    outputs, kernel, stride, padding = (int(each) for each in random.integers((2, 1, 1, 0), (6, 4, 3, 2)))
    layers: list[Callable[[], nn.Module]] = [
        lambda: nn.Conv2d(channels, outputs, kernel, stride, padding),
        lambda: nn.Conv2d(channels, outputs, 1, bias=False),
        lambda: nn.Conv2d(channels, outputs, 2, dilation=2, padding=1),
        lambda: nn.Conv2d(channels, 2 * channels, 3, 1, 1, groups=channels),
        lambda: nn.ConvTranspose2d(channels, outputs, kernel + 1, stride, min(padding, kernel)),
        lambda: nn.ConvTranspose2d(channels, outputs, 3, 2, 1, output_padding=1),
        lambda: SameConvTranspose2d(channels, outputs, 4, 1 + stride % 2),
        lambda: norm(channels),
        lambda: nn.AvgPool2d(2, stride),
        lambda: nn.ZeroPad2d((1, 0, 2, 1)),
        lambda: nn.Upsample(scale_factor=2),
        nn.Dropout,
        lambda: Fixed(FIXED[random.integers(len(FIXED))], channels, shape),
        lambda: Fixed(FIXED[random.integers(len(FIXED))], channels, shape),
        lambda: (nn.ReLU(), nn.Tanh(), nn.LeakyReLU(0.3))[random.integers(3)],
    ]
    return layers[random.integers(len(layers))]()


def random_network(seed: int) -> tuple[nn.Sequential, tuple[int, ...]]:
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    shape = tuple(int(size) for size in random.integers((1, 6, 5), (4, 10, 9)))
    network, example = nn.Sequential(), torch.zeros(1, *shape)
    while len(network) < 2 + seed % 4:
        layer = random_layer(random, example.shape[1], tuple(example.shape[1:])).eval()
        made = layer(example)
        if made.numel() <= 3000 and min(made.shape[2:]) >= 4:
            network.append(layer)
            example = made
    if seed % 3:
        network.extend([nn.Flatten(), nn.Linear(example.numel(), 2 + seed % 7), nn.Tanh(), nn.Linear(2 + seed % 7, 5)])
    return network, shape


@pytest.mark.parametrize("seed", range(24))
def test_random_chains_compute_the_same_at_no_greater_cost(seed: int) -> None:
    network, shape = random_network(seed)
    model, what = simplified(network, *shape)
    assert what.multiply_adds_after <= what.multiply_adds_before
    assert what.multiply_adds_after == total_multiply_adds(View(model))
    assert what.multiply_adds_before - what.multiply_adds_after == sum(
        each.multiply_adds_before - each.multiply_adds_after for each in what.rewrites
    )
    assert "BatchNormalization" not in operations(model)
    assert "Dropout" not in operations(model)
