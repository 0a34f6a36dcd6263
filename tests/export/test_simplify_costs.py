"""The cost model against PyTorch's own count."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from vae_gen_export.simplify.costs import total_multiply_adds
from vae_gen_export.simplify.view import View

from tests.export.simplification import traced


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Sequential(nn.Conv2d(3, 5, (3, 2), (2, 1), (1, 0)), nn.ReLU(), nn.Conv2d(5, 2, 3, dilation=2)), (3, 11, 9)),
        (nn.Conv2d(4, 6, 3, groups=2), (4, 7, 6)),
        (nn.ConvTranspose2d(3, 4, 3, 2, 1, output_padding=1), (3, 5, 4)),
        (nn.Sequential(nn.Flatten(), nn.Linear(24, 7), nn.Tanh(), nn.Linear(7, 3, bias=False)), (2, 3, 4)),
    ],
    ids=["convolutions", "groups", "transposed", "dense"],
)
def test_multiply_adds_are_half_of_what_pytorch_counts(network: nn.Module, shape: tuple[int, ...]) -> None:
    counter = FlopCounterMode(display=False)
    with counter:
        network(torch.rand(1, *shape))
    assert 2 * total_multiply_adds(View(traced(network, *shape))) == counter.get_total_flops()


def test_what_works_on_each_value_costs_its_operations() -> None:
    class Pointwise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(2 * x) * 3 + 1

    norm = nn.Sequential(nn.Tanh(), nn.BatchNorm2d(2), nn.Tanh())
    assert total_multiply_adds(View(traced(Pointwise(), 2, 3, 4))) == 3 * 24
    assert total_multiply_adds(View(traced(norm, 2, 3, 4))) == 3 * 24
    assert total_multiply_adds(View(traced(nn.AvgPool2d((2, 3)), 2, 4, 6))) == 2 * 2 * 2 * 6
