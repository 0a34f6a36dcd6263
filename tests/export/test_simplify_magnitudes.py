"""Channels of very different magnitudes side by side: what is small beside another channel is not nothing."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from vae_gen_export.simplify import simplify
from vae_gen_export.simplify.forms import Form, Part
from vae_gen_export.simplify.regions import regions
from vae_gen_export.simplify.view import View

from tests.export.simplification import graph_of, normal, operations, run

SHAPE = (1, 2, 1, 8)
VARYING = np.stack([np.full((1, 8), 1e13), np.linspace(1, 2, 8)[None]])[None].astype(np.float32)
HALF, ONES = np.float32(0.5), np.ones((2, 1, 1, 1), np.float32)


def chain(*steps: tuple[str, np.ndarray], end: str = "Tanh", **attributes: int) -> onnx.ModelProto:
    """x -> each operation with its constant -> Tanh -> y."""
    nodes, last = [], "x"
    for number, (operation, _) in enumerate(steps):
        given = attributes if operation == "Conv" else {}
        nodes.append(helper.make_node(operation, [last, f"c{number}"], [f"h{number}"], **given))
        last = f"h{number}"
    nodes.append(helper.make_node(end, [last], ["y"]))
    constants = {f"c{number}": np.asarray(values, np.float32) for number, (_, values) in enumerate(steps)}
    return graph_of(nodes, constants, ["batch", *SHAPE[1:]], ["batch", *SHAPE[1:]])


CHAINS = {
    "scale": (chain(("Mul", VARYING), ("Mul", HALF)), ["Mul", "Tanh"], lambda x: x * VARYING / 2),
    "shift": (chain(("Add", VARYING), ("Add", HALF)), ["Add", "Tanh"], lambda x: x + VARYING + 0.5),
    "border": (
        chain(("Add", VARYING), ("Mul", HALF), ("Conv", ONES), group=2),
        ["Conv", "Add", "Tanh"],
        lambda x: (x + VARYING) / 2,
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_what_varies_in_one_channel_is_kept_beside_a_far_larger_one(name: str) -> None:
    model, expected, formula = CHAINS[name]
    small, _ = simplify(model)
    x = normal(3, *SHAPE[1:])
    np.testing.assert_allclose(run(small, x)[0], np.tanh(formula(x.astype(np.float64))), atol=1e-6)
    assert operations(small) == expected


@pytest.mark.parametrize(("values", "agrees"), [(VARYING / 2, True), (VARYING[..., :1] / 2, False)])
def test_a_form_that_is_wrong_in_the_smaller_channel_is_not_used(values: np.ndarray, agrees: bool) -> None:
    view = View(CHAINS["scale"][0])
    ((region, _),) = regions(view)
    form = Form(Part(region, "x", region.nodes, ("h1",)))
    form.node("Mul", ["x", form.constant("scale", values.astype(np.float64))], ["h1"])
    assert form.agrees() is agrees


def test_what_differs_by_rounding_alone_is_one_number() -> None:
    small, _ = simplify(chain(("Add", normal(*SHAPE)), ("Mul", np.float32(0.1)), ("Add", HALF)))
    sizes = {each.name: numpy_helper.to_array(each).size for each in small.graph.initializer}
    by = {node.op_type: [sizes[name] for name in node.input if name in sizes] for node in small.graph.node}
    assert by == {"Mul": [1], "Add": [16], "Tanh": []}


def test_a_sum_that_cancels_does_not_keep_a_form_from_being_used() -> None:
    up, down = np.round(8 * normal(4, 50)) / 8, normal(50, 3)
    up[:, 2], down[:, 0] = up[:, 0] + up[:, 1], 0
    down[:3, 0] = 1, 1, -1  # x @ up @ down is zero there, but for rounding
    nodes = [helper.make_node("MatMul", ["x", "up"], ["h"]), helper.make_node("MatMul", ["h", "down"], ["y"])]
    small, _ = simplify(graph_of(nodes, {"up": up, "down": down}, ["batch", 4], ["batch", 3]))
    assert operations(small) == ["Gemm"]
    x = normal(3, 4)
    expected = x.astype(np.float64) @ up.astype(np.float64) @ down.astype(np.float64)
    np.testing.assert_allclose(run(small, x)[0], expected, atol=1e-5)
