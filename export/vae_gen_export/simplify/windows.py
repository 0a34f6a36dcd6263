"""How an operation looks at its input: through a window that slides along each spatial axis."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx

from vae_gen_export.simplify.view import Shape, View, attributes


@dataclass(frozen=True)
class Window:
    """Output i takes the inputs stride * i - begin + dilation * (0 ... kernel - 1), along each spatial axis.

    Channels of one of `group` equal groups take channels of the same group only.
    """

    kernel: Shape
    stride: Shape
    begin: Shape
    dilation: Shape
    group: int

    @property
    def extent(self) -> Shape:
        return tuple(dilation * (kernel - 1) + 1 for kernel, dilation in zip(self.kernel, self.dilation, strict=True))

    @property
    def is_point(self) -> bool:
        return set(self.kernel) == {1}

    def then(self, second: Window) -> Window:
        """The window of both, one after the other."""
        kernel, dilation = [], []
        for axis, stride in enumerate(self.stride):
            if second.kernel[axis] == 1:
                taps, apart = self.kernel[axis], self.dilation[axis]
            elif self.kernel[axis] == 1:
                taps, apart = second.kernel[axis], second.dilation[axis] * stride
            else:
                taps, apart = self.extent[axis] + stride * (second.extent[axis] - 1), 1
            kernel.append(taps)
            dilation.append(apart)
        return Window(
            tuple(kernel),
            tuple(a * b for a, b in zip(self.stride, second.stride, strict=True)),
            tuple(a + s * b for a, s, b in zip(self.begin, self.stride, second.begin, strict=True)),
            tuple(dilation),
            math.gcd(self.group, second.group),
        )


def point(shape: Shape, begin: Shape | None = None, group: int | None = None) -> Window:
    """What takes each value by itself, of an image [channels, ...]."""
    one = (1,) * (len(shape) - 1)
    return Window(one, one, begin or (0,) * len(one), one, group or shape[0])


def window_of(view: View, node: onnx.NodeProto) -> Window | None:
    """The window of an operation from images to images; None if it has none."""
    before, after = view.shapes[node.input[view.variable_inputs(node)[0]]], view.shapes[node.output[0]]
    if len(before) < 2 or len(before) != len(after):
        return None
    look = OPERATIONS.get(node.op_type)
    return look(view, node, before, after) if look else None


def _alone(_view: View, _node: onnx.NodeProto, before: Shape, after: Shape) -> Window | None:
    return point(before) if before == after else None


def _sliding(view: View, node: onnx.NodeProto, before: Shape, _after: Shape) -> Window | None:
    given, rank = attributes(node), len(before) - 1
    pads = tuple(given.get("pads") or [0] * (2 * rank))
    if given.get("auto_pad", b"NOTSET") != b"NOTSET" or given.get("ceil_mode"):
        return None
    if node.op_type == "AveragePool" and any(pads) and not given.get("count_include_pad"):
        return None
    weight = view.constant_input(node, 1)
    return Window(
        tuple(given["kernel_shape"]) if weight is None else weight.shape[2:],
        tuple(given.get("strides") or [1] * rank),
        pads[:rank],
        tuple(given.get("dilations") or [1] * rank),
        before[0] if weight is None else given.get("group", 1),
    )


def _scaled(view: View, node: onnx.NodeProto, before: Shape, after: Shape) -> Window | None:
    """A constant factor must be one number for each channel."""
    (constant,) = (view.constants[name] for name in node.input if name in view.constants)
    sizes = (1,) * (1 + len(before) - constant.ndim) + constant.shape
    per_channel = len(sizes) == 1 + len(before) and sizes[0] == 1 and set(sizes[2:]) == {1}
    return _alone(view, node, before, after) if per_channel else None


def _shifted(view: View, node: onnx.NodeProto, before: Shape, after: Shape) -> Window | None:
    """What is added may be anything that is constant."""
    return _alone(view, node, before, after) if len(view.variable_inputs(node)) == 1 else None


def _padded(view: View, node: onnx.NodeProto, shape: Shape, _after: Shape) -> Window | None:
    if attributes(node).get("mode", b"constant") != b"constant" or len(node.input) > 3:
        return None
    pads, value = view.constant_input(node, 1), view.constant_input(node, 2)
    rank = len(shape) - 1
    if pads is None or pads.size != 2 * (rank + 2) or (value is not None and value.any()):
        return None
    begin, end = pads[: rank + 2], pads[rank + 2 :]
    return None if begin[:2].any() or end[:2].any() else point(shape, tuple(int(each) for each in begin[2:]))


def _cropped(view: View, node: onnx.NodeProto, before: Shape, after: Shape) -> Window | None:
    """A slice with step 1: of the spatial axes it moves the begin, of the channels it mixes the groups."""
    starts, axes, steps = (view.constant_input(node, position) for position in (1, 3, 4))
    if starts is None or (steps is not None and (steps != 1).any()):
        return None
    rank = len(before) + 1
    begin = [0] * rank
    for start, axis in zip(starts, range(len(starts)) if axes is None else axes, strict=True):
        size = 0 if axis % rank == 0 else before[axis % rank - 1]
        begin[axis % rank] = max(0, int(start) + size) if start < 0 else int(start)
    if begin[0]:
        return None
    return point(before, tuple(-each for each in begin[2:]), before[0] if before[0] == after[0] else 1)


OPERATIONS = {
    "Add": _shifted,
    "AveragePool": _sliding,
    "BatchNormalization": _alone,
    "Conv": _sliding,
    "Div": _scaled,
    "Dropout": _alone,
    "Identity": _alone,
    "Mul": _scaled,
    "Neg": _alone,
    "Pad": _padded,
    "Slice": _cropped,
    "Sub": _shifted,
}
