"""Simplification of chains and branches whose cheapest form is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from vae_gen_export.simplify import forms, simplify
from vae_gen_export.simplify.affine import rewrite_affine
from vae_gen_train.nets import SameConvTranspose2d

from tests.export.simplification import Fixed, norm, operations, simplified, traced


def test_a_shorter_chain_is_found_where_one_layer_would_cost_more() -> None:
    # 100 -> 50 -> 3 -> 60 -> 80: one dense layer would cost 8,000; the way through the 3 costs 540.
    network = nn.Sequential(*(nn.Linear(a, b) for a, b in ((100, 50), (50, 3), (3, 60), (60, 80))))
    model, what = simplified(network, 100)
    assert operations(model) == ["Gemm", "Gemm"]
    assert what.multiply_adds_after == 100 * 3 + 3 * 80
    assert [each.before for each in what.rewrites] == [("Gemm", "Gemm"), ("Gemm", "Gemm")]


def test_the_ir_version_of_a_graph_does_not_matter() -> None:
    graph = traced(nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)), 5)
    graph.ir_version = 1_000  # of years to come: no onnxruntime takes it
    model, rewrites = rewrite_affine(graph)
    assert operations(model) == ["Gemm"]
    assert [each.before for each in rewrites] == [("Gemm", "Gemm")]


@pytest.mark.parametrize(
    ("layers", "expected", "cost"),
    [
        ([nn.Conv2d(3, 5, 3, 2, 1), norm(5)], ["Conv"], 20 * 5 * 3 * 9),
        ([norm(3), nn.Conv2d(3, 5, 3)], ["Conv"], 48 * 5 * 3 * 9),
        ([norm(3), nn.Conv2d(3, 5, 3, padding=1)], ["Conv", "Add"], 80 * 5 * 3 * 9 + 80 * 5),
        ([nn.Conv2d(3, 32, 1), nn.Conv2d(32, 4, 3)], ["Conv"], 48 * 4 * 3 * 9),
        ([nn.Conv2d(3, 32, 1, bias=False), nn.Conv2d(32, 4, 3, padding=1)], ["Conv"], 80 * 4 * 3 * 9),
        # one 5x5 convolution would be cheaper, but at the border the padding in between shows
        ([nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)], ["Conv", "Conv"], 80 * 8 * 5 * 9),
        ([nn.Conv2d(3, 6, 3, groups=3), norm(6)], ["Conv"], 48 * 6 * 9),
        ([nn.Conv2d(3, 6, 3, dilation=2), norm(6)], ["Conv"], 24 * 6 * 3 * 9),
        ([nn.Conv2d(3, 4, 1), nn.AvgPool2d(2)], ["Conv"], 20 * 4 * 3 * 4),
        ([nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(3, 4, 3)], ["Conv"], 7 * 11 * 4 * 3 * 9),
        ([nn.ConvTranspose2d(3, 4, 4, 2, 1), norm(4)], ["ConvTranspose"], 80 * 3 * 4 * 16),
        ([nn.ConvTranspose2d(3, 4, 3, 2, 1, 1), Fixed("scale", 4, ())], ["ConvTranspose"], 80 * 3 * 4 * 9),
        ([norm(3), nn.ConvTranspose2d(3, 1, 3, 2)], ["ConvTranspose", "Add"], 80 * 3 * 9 + 17 * 21),
        ([norm(3), nn.ConvTranspose2d(3, 4, 3, 2)], ["Mul", "Add", "ConvTranspose"], 2 * 240 + 80 * 3 * 4 * 9),
        ([SameConvTranspose2d(3, 4, 4, 2), norm(4)], ["ConvTranspose"], 80 * 3 * 4 * 16),
        ([nn.Tanh(), norm(3), nn.Tanh()], ["Tanh", "Mul", "Add", "Tanh"], 2 * 240),
        ([Fixed("negate", 3, ()), Fixed("divide", 3, ()), nn.Tanh()], ["Mul", "Tanh"], 240),
        ([Fixed("turn", 3, ()), nn.Dropout(), Fixed("turn", 3, ()), nn.Tanh()], ["Tanh"], 0),
        ([nn.Conv2d(3, 5, 3), Fixed("channels", 5, ())], ["Conv"], 48 * 4 * 3 * 9),
    ],
)  # fmt: skip
def test_chains_over_images_take_one_layer(layers: list[nn.Module], expected: list[str], cost: int) -> None:
    torch.manual_seed(0)
    model, what = simplified(nn.Sequential(*layers).float(), 3, 8, 10)
    assert operations(model) == expected
    assert what.multiply_adds_after == cost
    given = {name for node in model.graph.node for name in (attribute.name for attribute in node.attribute)}
    assert not given & {"output_padding", "auto_pad", "output_shape"}


def test_a_small_step_before_or_after_goes_into_its_neighbour() -> None:
    class Whitened(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean, self.std = nn.Parameter(torch.randn(6)), nn.Parameter(torch.rand(6) + 0.5)
            self.turn, self.dense = nn.Parameter(torch.randn(6, 6)), nn.Linear(6, 9)

        def forward(self, x: Tensor) -> Tensor:
            values = (x - self.mean) / self.std @ self.turn
            first, second = self.dense(values)[:, :4], values[:, 3:]
            return torch.cat([torch.tanh(first) * 0.5, torch.relu(second)], 1)

    model, what = simplified(Whitened(), 6)
    assert sorted(operations(model)) == sorted(["Gemm", "Split", "Tanh", "Mul", "Relu", "Concat"])
    assert what.multiply_adds_after == 6 * (4 + 3) + 4


class Branches(nn.Module):
    """Two affine paths that meet again, and one tensor that is also used behind an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6 * 5 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        return self.head((first + self.second(first)).flatten(1)) + torch.relu(first).mean((2, 3))[:, :3]


def test_branches_that_meet_are_one_map_and_what_others_need_remains() -> None:
    model, what = simplified(Branches(), 2, 5, 4)
    # The first convolution costs 2,160 and is needed; all after it is one dense layer from what it makes.
    assert what.rewrites[0].before == ("Conv", "Add", "Reshape", "Gemm")
    assert what.rewrites[0].multiply_adds_before == 20 * 6 * 6 * 9 + 120 + 120 * 3
    assert what.rewrites[0].multiply_adds_after == 120 * 3
    assert operations(model).count("Conv") == 1


def test_each_of_several_heads_is_simplified() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Linear(40, 100), nn.Linear(100, 2))
            self.second = nn.Sequential(nn.Linear(40, 90), nn.Linear(90, 3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.first(x)).sum(1, keepdim=True) * torch.relu(self.second(x))

    _, what = simplified(Heads(), 40)
    assert what.rewrites[0].multiply_adds_after == 40 * (2 + 3)


def test_new_names_do_not_collide_with_old_ones() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(2, 6, 3)
            self.y = nn.Linear(6 * 4 * 4, 3)  # its parameters are y.weight and y.bias, and so are the output's

        def forward(self, x: Tensor) -> Tensor:
            return self.y(self.first(x).flatten(1))

    _, what = simplified(Named(), 2, 6, 6)
    assert len(what.rewrites) == 1


def test_a_dense_layer_that_nobody_could_find_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(8 * 4 * 4, 2))
    assert operations(simplify(traced(network, 1, 6, 6))[0]) == ["Flatten", "Gemm"]
    # 36 inputs, each through 16 * 8 * 9 + 128 * 2 = 1,408 multiply-adds; 72 weights
    for limit, value in (("MOST_WORK", 36 * 1408 - 1), ("MOST_WEIGHTS", 71)):
        with monkeypatch.context() as patch:
            patch.setattr(forms, limit, value)
            assert operations(simplify(traced(network, 1, 6, 6))[0]) == ["Conv", "Reshape", "Gemm"]


@pytest.mark.parametrize("raised", [ValueError, TypeError, RuntimeError])
def test_a_form_that_cannot_be_built_is_not_used(raised: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise raised("the evaluator does not know that")

    monkeypatch.setattr(forms, "matrix_of", fail)
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(8 * 4 * 4, 2))
    assert operations(simplify(traced(network, 1, 6, 6))[0]) == ["Conv", "Reshape", "Gemm"]
