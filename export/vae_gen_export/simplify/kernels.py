"""The weights of operations that look through windows, and of several of them one after the other.

Weights are [out, in / group, kernel...] here, for transposed convolutions too.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import onnx

from vae_gen_export.simplify.evaluation import Float64
from vae_gen_export.simplify.view import View, as_float64, attributes
from vae_gen_export.simplify.windows import Window


def kernel_of(view: View, node: onnx.NodeProto, window: Window) -> Float64:
    """The weights of an operation that has that window."""
    rank = len(window.kernel)
    if node.op_type in ("Conv", "ConvTranspose"):
        weight = as_float64(view.constants[node.input[1]])
        return turned(weight, window.group) if node.op_type == "ConvTranspose" else weight
    channels = view.shapes[node.input[view.variable_inputs(node)[0]]][0]
    if node.op_type == "AveragePool":
        return np.full((channels, 1, *window.kernel), 1 / math.prod(window.kernel))
    made = view.shapes[node.output[0]][0]
    if made != channels:  # a slice of the channels
        start = next(int(s) for s, axis in zip(*_starts(view, node), strict=True) if axis % (rank + 2) == 1)
        return np.eye(channels)[start % channels :][:made].reshape(made, channels, *(1,) * rank)
    factor = np.broadcast_to(_factor(view, node).reshape(-1), (channels,))
    return factor.reshape(channels, 1, *(1,) * rank)


def composed(first: Window, inner: Float64, second: Window, outer: Float64) -> Float64:
    """The weights of first.then(second)."""
    if _is_scaling(second, outer):
        return inner * outer.reshape(-1, *(1,) * (inner.ndim - 1))
    if _is_scaling(first, inner):
        factors = np.repeat(inner.reshape(second.group, -1), len(outer) // second.group, 0)
        return outer * factors.reshape(*factors.shape, *(1,) * (outer.ndim - 2))
    both = first.then(second)
    inner, outer = _ungrouped(inner, first.group), _ungrouped(outer, second.group)
    total = np.zeros((len(outer), inner.shape[1], *both.kernel))
    for one in itertools.product(*map(range, first.kernel)):
        for two in itertools.product(*map(range, second.kernel)):
            place = [_place(first, second, axis, one[axis], two[axis]) for axis in range(len(one))]
            total[_index(..., *place)] += outer[_index(..., *two)] @ inner[_index(..., *one)]
    return _grouped(total, both.group)


def turned(weight: Float64, group: int) -> Float64:
    """[in, out / group, kernel...] from [out, in / group, kernel...], or the other way round."""
    blocks = weight.reshape(group, len(weight) // group, *weight.shape[1:])
    swapped = np.swapaxes(blocks, 1, 2)
    return swapped.reshape(-1, *swapped.shape[2:])


def _place(first: Window, second: Window, axis: int, one: int, two: int) -> int:
    """Of two taps, one after the other, among those of both windows together."""
    if first.kernel[axis] == 1 or second.kernel[axis] == 1:
        return one + two
    return first.dilation[axis] * one + first.stride[axis] * second.dilation[axis] * two


def _is_scaling(window: Window, weight: Float64) -> bool:
    return window.is_point and len(weight) == window.group and weight.shape[1] == 1


def _ungrouped(weight: Float64, group: int) -> Float64:
    outputs, inputs = len(weight) // group, weight.shape[1]
    full = np.zeros((len(weight), inputs * group, *weight.shape[2:]))
    for number in range(group):
        rows = slice(number * outputs, (number + 1) * outputs)
        full[rows, number * inputs : (number + 1) * inputs] = weight[rows]
    return full


def _grouped(full: Float64, group: int) -> Float64:
    outputs, inputs = len(full) // group, full.shape[1] // group
    blocks = [full[k * outputs : (k + 1) * outputs, k * inputs : (k + 1) * inputs] for k in range(group)]
    return np.concatenate(blocks)


def _factor(view: View, node: onnx.NodeProto) -> Float64:
    """What an operation that takes each value by itself multiplies it with."""
    constants = [as_float64(view.constants[name]) for name in node.input if name in view.constants]
    if node.op_type == "BatchNormalization":
        gamma, _, _, variance = constants
        return np.asarray(gamma / np.sqrt(variance + attributes(node).get("epsilon", 1e-5)))
    if node.op_type in ("Mul", "Div"):
        return np.asarray(constants[0] if node.op_type == "Mul" else 1 / constants[0])
    negative = node.op_type == "Neg" or (node.op_type == "Sub" and view.variable_inputs(node) == [1])
    return np.array([-1.0 if negative else 1.0])


def _starts(view: View, node: onnx.NodeProto) -> tuple[Any, Any]:
    starts, axes = view.constants[node.input[1]], view.constant_input(node, 3)
    return starts, range(len(starts)) if axes is None else axes


def _index(*places: Any) -> Any:
    return places
