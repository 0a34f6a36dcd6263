"""Chains that slide a window over an image -> one convolution, or one transposed convolution."""

from __future__ import annotations

import itertools
import math
from functools import reduce
from typing import Any

import numpy as np
import onnx

from vae_gen_export.simplify.forms import Choice, Form, Part, narrow
from vae_gen_export.simplify.view import View, attributes
from vae_gen_export.simplify.windows import Window, window_of


def convolution(part: Part) -> Choice | None:
    view = part.view
    if "Conv" not in part.operations or not _is_chain(part):
        return None
    windows = [window_of(view, view.nodes[number]) for number in part.nodes]
    if None in windows:
        return None
    window = reduce(Window.then, [each for each in windows if each])
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
    return Choice("convolution", (cost, 1), lambda part: _read_off(part, "Conv", window, pads))


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
    others = [each for position, each in enumerate(windows) if position != at]
    own = windows[at]
    if own is None or any(each is None or not each.is_point or set(each.stride) != {1} for each in others):
        return None
    if any(any(each.begin) for each in windows[:at] if each):
        return None
    before, after = view.shapes[part.source], view.shapes[part.outputs[0]]
    begin = [
        sum(each) for each in zip(own.begin, *(tuple(-b for b in w.begin) for w in windows[at + 1 :] if w), strict=True)
    ]
    window = Window(own.kernel, own.stride, tuple(begin), own.dilation, math.gcd(*(w.group for w in windows if w)))
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
    return Choice("transposed convolution", (cost, 1), lambda part: _read_off(part, "ConvTranspose", window, pads))


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


def _read_off(part: Part, operation: str, window: Window, pads: list[int]) -> Form:
    """The convolution, or transposed one, whose kernel is what single ones become.

    Tap k joins the places i of the smaller image and stride * i + dilation * k - begin of the larger.
    """
    run = part.run()
    before, after = part.view.shapes[part.source], part.view.shapes[part.outputs[0]]
    transposed = operation == "ConvTranspose"
    outer, inner = (before, after[0]) if transposed else (after, before[0])
    weight = np.zeros((outer[0], inner // window.group, *window.kernel))
    group = before[0] // window.group
    channels = np.arange(before[0])
    (bias,) = run(np.zeros((1, *before)))
    for tap in itertools.product(*map(range, window.kernel)):
        smaller, larger = (before, after) if transposed else (after, before)
        joined = [_joined(window, axis, tap[axis], smaller[1 + axis], larger[1 + axis]) for axis in range(len(tap))]
        if None in joined:
            continue  # it never meets the image, and stays 0
        low, high = zip(*(each for each in joined if each), strict=True)
        one, place = (low, high) if transposed else (high, low)
        rows = np.zeros((group, *before))
        rows[_index(channels % group, channels, *one)] = 1  # a channel of every group at once: they do not meet
        (values,) = run(rows)
        found = (values - bias)[_index(..., *place)]  # [in / group, out]
        weight[_index(..., *tap)] = np.concatenate(np.split(found, window.group, 1)) if transposed else found.T

    form = Form(part)
    level = narrow(bias[0])
    uniform = set(level.shape[2:]) <= {1}
    parameters = [form.constant("weight", weight)]
    if uniform and level.any():
        parameters.append(form.constant("bias", np.broadcast_to(level.reshape(-1), after[0]).copy()))
    target = part.outputs[0] if uniform else form.name(f"{part.outputs[0]}.linear")
    given: dict[str, Any] = {"kernel_shape": list(window.kernel), "pads": pads}
    if set(window.stride) != {1}:
        given["strides"] = list(window.stride)
    if set(window.dilation) != {1}:
        given["dilations"] = list(window.dilation)
    if window.group != 1:
        given["group"] = window.group
    form.node(operation, [part.source, *parameters], [target], **given)
    if not uniform:  # at the border, what was added before a padded convolution is not the same
        form.node("Add", [target, form.constant("border", level)], [*part.outputs])
    return form


def _joined(window: Window, axis: int, tap: int, smaller: int, larger: int) -> tuple[int, int] | None:
    """Two places that a tap joins, in the middle of those inside both images."""
    offset = window.dilation[axis] * tap - window.begin[axis]
    pairs = [(i, window.stride[axis] * i + offset) for i in range(smaller)]
    inside = [pair for pair in pairs if 0 <= pair[1] < larger]
    return inside[len(inside) // 2] if inside else None


def _index(*places: Any) -> Any:
    return places


def _is_chain(part: Part) -> bool:
    """Whether each node takes the one before it, and nothing else that varies."""
    view, last = part.view, part.source
    for number in part.nodes:
        node = view.nodes[number]
        if [node.input[position] for position in view.variable_inputs(node)] != [last]:
            return False
        last = node.output[0]
    return len(part.outputs) == 1
