"""Chains that slide a window over an image -> one convolution, or one transposed convolution."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np
import onnx

from vae_gen_export.simplify.forms import Choice, Form, Part, narrow
from vae_gen_export.simplify.kernels import composed, kernel_of, turned
from vae_gen_export.simplify.view import View, attributes
from vae_gen_export.simplify.windows import Window, window_of


def convolution(part: Part) -> Choice | None:
    view = part.view
    if "Conv" not in part.operations or not _is_chain(part):
        return None
    windows = [window_of(view, view.nodes[number]) for number in part.nodes]
    known = [each for each in windows if each]
    if len(known) < len(windows):
        return None
    window = reduce(Window.then, known)
    before, after = view.shapes[part.source], view.shapes[part.outputs[0]]
    ends = [
        (outputs - 1) * stride + extent - size - begin
        for outputs, stride, extent, size, begin in zip(
            after[1:], window.stride, window.extent, before[1:], window.begin, strict=True
        )
    ]
    pads = [*window.begin, *(max(0, end) for end in ends)]
    made = [
        (size + low + high - extent) // stride + 1
        for size, low, high, extent, stride in zip(
            before[1:], pads[: len(ends)], pads[len(ends) :], window.extent, window.stride, strict=True
        )
    ]
    if min(pads) < 0 or tuple(made) != after[1:] or before[0] % window.group or after[0] % window.group:
        return None
    cost = math.prod(after) * before[0] // window.group * math.prod(window.kernel)
    return Choice("convolution", (cost, 1), lambda part: _built(part, "Conv", window, known, pads))


# One transposed convolution


def transposed_convolution(part: Part) -> Choice | None:
    view, operations = part.view, part.operations
    if operations.count("ConvTranspose") != 1 or len(operations) < 2 or not _is_chain(part):
        return None
    at = operations.index("ConvTranspose")
    windows = [
        _transposed_window(view, view.nodes[number]) if position == at else window_of(view, view.nodes[number])
        for position, number in enumerate(part.nodes)
    ]
    known = [each for each in windows if each]
    if len(known) < len(windows):
        return None
    own, others = known[at], known[:at] + known[at + 1 :]
    if not all(each.is_point and set(each.stride) == {1} for each in others) or any(any(w.begin) for w in known[:at]):
        return None
    before, after = view.shapes[part.source], view.shapes[part.outputs[0]]
    begin = [sum(each) for each in zip(own.begin, *(tuple(-b for b in w.begin) for w in known[at + 1 :]), strict=True)]
    window = Window(own.kernel, own.stride, tuple(begin), own.dilation, math.gcd(*(w.group for w in known)))
    ends = [
        (inputs - 1) * stride + extent - low - outputs
        for inputs, stride, extent, low, outputs in zip(
            before[1:], window.stride, window.extent, begin, after[1:], strict=True
        )
    ]
    if min(*begin, *ends) < 0:
        return None
    pads = [*begin, *ends]
    cost = math.prod(before) * after[0] // window.group * math.prod(window.kernel)
    return Choice("transposed convolution", (cost, 1), lambda part: _built(part, "ConvTranspose", window, known, pads))


def _transposed_window(view: View, node: onnx.NodeProto) -> Window | None:
    given = attributes(node)
    weight = view.constants[node.input[1]]
    rank = weight.ndim - 2
    if given.get("auto_pad", b"NOTSET") != b"NOTSET" or given.get("output_shape"):
        return None
    return Window(
        weight.shape[2:],
        tuple(given.get("strides") or [1] * rank),
        tuple((given.get("pads") or [0] * rank)[:rank]),
        tuple(given.get("dilations") or [1] * rank),
        given.get("group", 1),
    )


# What both convolutions share


def _built(part: Part, operation: str, window: Window, parts: list[Window], pads: list[int]) -> Form:
    view = part.view
    nodes = [view.nodes[number] for number in part.nodes]
    together, weight = parts[0], kernel_of(view, nodes[0], parts[0])
    for node, following in zip(nodes[1:], parts[1:], strict=True):
        weight = composed(together, weight, following, kernel_of(view, node, following))
        together = together.then(following)
    (bias,) = part.run()(np.zeros((1, *view.shapes[part.source])))
    gain = np.abs(weight).reshape(len(weight), -1).sum(1).reshape(-1, *(1,) * len(window.kernel))
    level = narrow(bias[0], np.abs(bias[0]) + gain)
    uniform = set(level.shape[2:]) <= {1}

    form = Form(part)
    parameters = [form.constant("weight", weight if operation == "Conv" else turned(weight, window.group))]
    if uniform and level.any():
        channels = view.shapes[part.outputs[0]][0]
        parameters.append(form.constant("bias", np.broadcast_to(level.reshape(-1), channels).copy()))
    target = part.outputs[0] if uniform else form.name(f"{part.outputs[0]}.linear")
    given: dict[str, Any] = {"kernel_shape": list(window.kernel), "pads": pads}
    for name, values in (("strides", window.stride), ("dilations", window.dilation)):
        if set(values) != {1}:
            given[name] = list(values)
    if window.group != 1:
        given["group"] = window.group
    form.node(operation, [part.source, *parameters], [target], **given)
    if not uniform:  # at the border, what was added before a padded convolution is not the same
        form.node("Add", [target, form.constant("border", level)], [*part.outputs])
    return form


def _is_chain(part: Part) -> bool:
    """Whether each node takes the one before it, and nothing else that varies."""
    view, last = part.view, part.source
    for number in part.nodes:
        node = view.nodes[number]
        if [node.input[position] for position in view.variable_inputs(node)] != [last]:
            return False
        last = node.output[0]
    return len(part.outputs) == 1
