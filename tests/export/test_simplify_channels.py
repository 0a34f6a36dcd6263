"""Channels that make no difference are taken out, and no others."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
import torch
from torch import nn
from vae_gen_export.simplify.view import View

from tests.export.simplification import simplified


def assert_narrow(network: nn.Sequential, shape: tuple[int, ...], removed: int, remaining: int) -> onnx.ModelProto:
    model, what = simplified(network, *shape)
    assert [(each.removed, each.remaining) for each in what.removals] == [(removed, remaining)]
    return model


@pytest.mark.parametrize(
    ("first", "between", "second", "shape"),
    [
        (nn.Linear(5, 8), [nn.Tanh()], nn.Linear(8, 3), (5,)),
        (nn.Linear(5, 8), [nn.Tanh()], nn.Linear(8, 3, bias=False), (5,)),
        (nn.Conv2d(2, 8, 3), [nn.Sigmoid(), nn.LeakyReLU(0.2)], nn.Conv2d(8, 3, 2), (2, 6, 5)),
        (nn.ConvTranspose2d(2, 8, 3), [nn.ReLU(), nn.Flatten()], nn.Linear(8 * 8 * 7, 3), (2, 6, 5)),
    ],
    ids=["dense", "no bias", "convolutions", "flattened"],
)
def test_channels_that_make_no_difference_go(
    first: Any, between: list[nn.Module], second: Any, shape: tuple[int, ...]
) -> None:
    """One channel that the second layer does not weigh, and one that is constant."""
    torch.manual_seed(0)
    turned = isinstance(first, nn.ConvTranspose2d)
    with torch.no_grad():
        first.bias.copy_(torch.linspace(0.5, 2, 8))
        (first.weight.transpose(0, 1) if turned else first.weight)[2] = 0
        places = second.weight.shape[1] // 8
        second.weight[:, 5 * places : 6 * places] = 0
    model = assert_narrow(nn.Sequential(first, *between, second), shape, 2, 6)
    sizes = {name: tensor.shape for name, tensor in View(model).constants.items() if tensor.ndim > 1}
    assert all(8 not in size for size in sizes.values())


@pytest.mark.parametrize(("bias", "removed"), [(0.7, 0), (-0.7, 1)], ids=["seen", "zero behind the ReLU"])
def test_a_constant_channel_stays_where_padding_would_show(bias: float, removed: int) -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    first: Any = network[0]
    with torch.no_grad():
        first.weight[1] = 0
        first.bias[1] = bias
    _, what = simplified(network, 2, 6, 5)
    assert sum(each.removed for each in what.removals) == removed


def test_one_channel_remains_where_none_makes_a_difference() -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    nn.init.zeros_(network[2].weight)  # type: ignore[arg-type]
    assert_narrow(network, (4,), 4, 1)
