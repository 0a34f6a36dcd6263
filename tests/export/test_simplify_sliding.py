"""Layers that slide a window over an image, one after the other: the one layer that they are, and its cost."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn
from vae_gen_export.simplify import simplify

from tests.export.simplification import Fixed, graph_of, norm, normal, operations, run, simplified


class Do(nn.Module):
    def __init__(self, act: object) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)  # type: ignore[operator]


def conv(*arguments: object, **options: object) -> nn.Conv2d:
    return nn.Conv2d(*arguments, **options)  # type: ignore[arg-type]


turned = nn.ConvTranspose2d

CHAINS: dict[str, tuple[list[nn.Module], dict[str, list[int]], int]] = {
    "a stride, and then a kernel": (
        [conv(3, 8, 1, (2, 1)), conv(8, 2, 3)], {"strides": [2, 1], "dilations": [2, 1]}, 2 * 8 * 2 * 3 * 9,
    ),
    "a stride, and then a border": (
        [conv(3, 32, 1, 2, bias=False), conv(32, 2, 3, padding=1)],
        {"strides": [2, 2], "dilations": [2, 2], "pads": [2, 2, 1, 1]},
        4 * 5 * 2 * 3 * 9,
    ),
    "two kernels with a stride between": (
        [conv(3, 32, 2, 2), conv(32, 2, 2)], {"strides": [2, 2], "kernel_shape": [4, 4]}, 3 * 4 * 2 * 3 * 16,
    ),
    "two kernels and two strides": (
        [conv(3, 32, 2, (2, 1)), conv(32, 2, (1, 2), (1, 3))],
        {"strides": [2, 3], "kernel_shape": [2, 3]},
        4 * 3 * 2 * 3 * 6,
    ),
    "other sides, strides and borders": (
        [conv(3, 16, 1, bias=False), conv(16, 2, (3, 2), (2, 1), (1, 0))],
        {"strides": [2, 1], "pads": [1, 0, 0, 0], "kernel_shape": [3, 2]},
        4 * 9 * 2 * 3 * 6,
    ),
    "a dilated kernel after a point": (
        [conv(3, 16, 1), conv(16, 2, (3, 2), dilation=(1, 2))], {"dilations": [1, 2]}, 6 * 8 * 2 * 3 * 6,
    ),
    "a dilated kernel before a kernel": (
        [conv(3, 32, 2, dilation=2), conv(32, 2, 2)], {"kernel_shape": [4, 4]}, 5 * 7 * 2 * 3 * 16,
    ),
    "a dilated kernel after a kernel": (
        [conv(3, 32, 2), conv(32, 2, 2, dilation=2)], {"kernel_shape": [4, 4]}, 5 * 7 * 2 * 3 * 16,
    ),
    "groups": ([conv(3, 12, 3, groups=3), conv(12, 3, 1, groups=3)], {"group": 3}, 6 * 8 * 3 * 9),
    "groups within groups": (
        [Do(lambda x: torch.cat([x, x], 1)), nn.Tanh(), conv(6, 96, 1, groups=2), conv(96, 6, 3, groups=3)],
        {},
        6 * 8 * 6 * 6 * 9,
    ),
    "a scale before groups": ([norm(3), conv(3, 6, 3, groups=3)], {"group": 3}, 6 * 8 * 6 * 9),
    "a scale after groups": ([conv(3, 6, 3, groups=3), Fixed("scale", 6, ())], {"group": 3}, 6 * 8 * 6 * 9),
    "a change of sign": ([Fixed("negate", 3, ()), conv(3, 4, 3)], {}, 6 * 8 * 4 * 3 * 9),
    "what is left to 1": ([Do(lambda x: 1 - x), conv(3, 4, 3)], {}, 6 * 8 * 4 * 3 * 9),
    "a division": ([Fixed("divide", 3, ()), conv(3, 4, 3)], {}, 6 * 8 * 4 * 3 * 9),
    "a border that is cut": ([conv(3, 4, 3, padding=1), Fixed("crop", 4, ())], {"pads": [0, 1, 1, 0]}, 7 * 9 * 4 * 27),
    "a border cut from the end": (
        [conv(3, 4, 3, padding=1), Do(lambda x: x[:, :, -7:, -9:])], {"pads": [0, 0, 1, 1]}, 7 * 9 * 4 * 27,
    ),
    "the last channels": ([conv(3, 5, 3), Do(lambda x: x[:, -2:])], {}, 6 * 8 * 2 * 3 * 9),
    "an average with a border": (
        [conv(3, 8, 1, bias=False), nn.AvgPool2d(2, 3, 1)], {"pads": [1, 1, 0, 0]}, 3 * 4 * 8 * 3 * 4,
    ),
    "transposed, and cut": (
        [turned(3, 4, 4, 2, 1), Fixed("crop", 4, ())], {"pads": [2, 1, 1, 2], "strides": [2, 2]}, 80 * 3 * 4 * 16,
    ),
    "transposed, with other sides": (
        [turned(3, 4, (4, 3), (2, 1), (1, 0), dilation=(1, 2)), Fixed("scale", 4, ())],
        {"pads": [1, 0, 1, 0], "strides": [2, 1], "dilations": [1, 2]},
        80 * 3 * 4 * 12,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_windows_is_one_window(name: str) -> None:
    layers, expected, cost = CHAINS[name]
    model, what = simplified(nn.Sequential(*layers).float(), 3, 8, 10)
    assert operations(model)[-1] == ("ConvTranspose" if "transposed" in name else "Conv")
    assert len(what.rewrites) == 1
    assert what.rewrites[0].multiply_adds_after == cost
    found = {item.name: onnx.helper.get_attribute_value(item) for item in model.graph.node[-1].attribute}
    given = {"strides": [1, 1], "dilations": [1, 1], "group": 1, **found}
    assert {key: given[key] for key in expected} == expected


def test_groups_of_transposed_convolutions_remain_groups() -> None:
    # PyTorch's exporter would write them as one group, and so this graph is made by hand.
    constants = {"before": normal(1, 4, 1, 1), "weight": normal(4, 3, 3, 2), "after": normal(6, 1, 1)}
    nodes = [
        helper.make_node("Mul", ["x", "before"], ["scaled"]),
        helper.make_node("ConvTranspose", ["scaled", "weight"], ["large"], group=2, strides=[2, 1], pads=[1, 0, 0, 0]),
        helper.make_node("Mul", ["large", "after"], ["y"]),
    ]
    model, what = simplify(graph_of(nodes, constants, ["batch", 4, 5, 6], ["batch", 6, 10, 7]))
    assert operations(model) == ["ConvTranspose"]
    assert what.multiply_adds_after == 5 * 6 * 4 * 3 * 6
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    before, weight, after = (torch.tensor(values, dtype=torch.float64) for values in constants.values())
    expected = nn.functional.conv_transpose2d(x * before, weight, stride=(2, 1), groups=2)[:, :, 1:] * after
    np.testing.assert_allclose(run(model, x.numpy())[0], expected.numpy(), atol=1e-5)


def test_borders_of_other_widths_stay_where_they_are() -> None:
    constants = {"before": normal(1, 2, 1, 1), "weight": normal(3, 2, 3, 2)}
    nodes = [
        helper.make_node("Mul", ["x", "before"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "weight"], ["y"], pads=[2, 0, 1, 3], strides=[1, 2]),
    ]
    model, _ = simplify(graph_of(nodes, constants, ["batch", 2, 5, 6], ["batch", 3, 6, 4]))
    assert operations(model) == ["Conv"]
    x = torch.randn(3, 2, 5, 6, dtype=torch.float64)
    before, weight = (torch.tensor(values, dtype=torch.float64) for values in constants.values())
    expected = nn.functional.conv2d(nn.functional.pad(x * before, (0, 3, 2, 1)), weight, stride=(1, 2))
    np.testing.assert_allclose(run(model, x.numpy())[0], expected.numpy(), atol=1e-5)
