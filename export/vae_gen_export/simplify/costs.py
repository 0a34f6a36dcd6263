"""The cost model: how many multiply-adds a graph takes for one row of the batch.

A convolution or a matrix product takes as many as it has multiplications; adding their bias is free. What works on
each value by itself takes one for each value and arithmetic operation: one for Mul, Div, Add, Sub or Neg, three for
BatchNormalization (the mean is taken off, the rest is scaled and shifted). Pooling takes one for each value under
the window. Moving values about (Reshape, Slice, Pad, Resize, ...) and activations are not counted.
"""

from __future__ import annotations

import math

import onnx

from vae_gen_export.simplify.view import View, attributes

ELEMENTWISE = {"Add": 1, "BatchNormalization": 3, "Div": 1, "Mul": 1, "Neg": 1, "Sub": 1}


def multiply_adds(view: View, node: onnx.NodeProto) -> int:
    """Those of one node; 0 where a shape that decides is not known."""
    shapes = view.shapes
    if not {*node.output, *(node.input[position] for position in view.variable_inputs(node))} <= shapes.keys():
        return 0
    outputs = math.prod(shapes[node.output[0]])
    if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return _products(view, node, outputs)
    if node.op_type == "AveragePool":
        return outputs * int(math.prod(attributes(node)["kernel_shape"]))
    if node.op_type in ("GlobalAveragePool", "ReduceMean", "ReduceSum"):
        return math.prod(shapes[node.input[0]])
    return ELEMENTWISE.get(node.op_type, 0) * outputs


def total_multiply_adds(view: View) -> int:
    return sum(multiply_adds(view, node) for node in view.nodes)


def _products(view: View, node: onnx.NodeProto, outputs: int) -> int:
    first, second = (view.shapes.get(name) for name in node.input[:2])
    weight = view.constant_input(node, 1)
    if node.op_type == "Conv" and weight is not None:  # weight [out, in / group, kernel...]
        return outputs * math.prod(weight.shape[1:])
    if node.op_type == "ConvTranspose" and weight is not None and first:  # weight [in, out / group, kernel...]
        return math.prod(first) * math.prod(weight.shape[1:])
    if first:  # each output is a sum over the first matrix's rows
        return outputs * first[-1]
    return outputs * (second[-2] if second and len(second) > 1 else 0)
