"""The same computation in another form of graph: half the size, bytes out, a fixed batch."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import onnx
import onnxscript.optimizer
from onnx import TensorProto, helper, numpy_helper
from vae_gen.errors import BundleError

from vae_gen_export.plain import clean
from vae_gen_export.simplify.view import constants_of


def with_half_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Matrices and kernels stored as float16, and cast to float32 before they are used."""
    made = deepcopy(model)
    graph = made.graph
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16) if values.dtype == np.float32 and values.ndim > 1 else values
        if half.dtype == np.float16 and np.isfinite(half).all():  # what is too large for it stays
            casts.append(helper.make_node("Cast", [f"{tensor.name}_half"], [tensor.name], to=TensorProto.FLOAT))
            tensor.CopyFrom(numpy_helper.from_array(half, f"{tensor.name}_half"))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    return made


def with_byte_pixels(decoder: onnx.ModelProto) -> onnx.ModelProto:
    """A decoder's `image` [batch, C, H, W] in [0, 1] as uint8 [batch, H, W, C], rounded half up.

    What is affine in it comes first, so that it can become part of a linear layer before it; values are clipped after
    that, once, and not at all behind a sigmoid.
    """
    made = deepcopy(decoder)
    graph = made.graph
    (image,) = graph.output
    batch, channels, height, width = image.type.tensor_type.shape.dim
    unit = f"{image.name}_unit"
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [unit if name == image.name else name for name in names]
    last = _maker_of_values(graph, unit)
    if last is not None and last.op_type == "Clip" and _limits(graph, last) == [0, 1]:
        last.CopyFrom(helper.make_node("Identity", last.input[:1], last.output))
    steps: list[tuple[str, list[float], dict[str, Any]]] = [
        ("Mul", [255], {}),
        ("Add", [0.5], {}),
        ("Transpose", [], {"perm": [0, 2, 3, 1]}),
        *([] if last is not None and last.op_type == "Sigmoid" else [("Clip", [0.5, 255.5], {})]),
        ("Floor", [], {}),  # because not every engine cuts off what a cast to integers leaves
        ("Cast", [], {"to": TensorProto.UINT8}),
    ]
    source = unit
    for number, (operation, constants, attributes) in enumerate(steps):
        target = image.name if number == len(steps) - 1 else f"{image.name}_{operation.lower()}"
        inputs = [source, *(f"{target}_by_{value:g}" for value in constants)]
        graph.initializer.extend(
            numpy_helper.from_array(np.array(value, np.float32), name)
            for name, value in zip(inputs[1:], constants, strict=True)
        )
        graph.node.append(helper.make_node(operation, inputs, [target], **attributes))
        source = target
    sizes = [dim.dim_param or dim.dim_value for dim in (batch, height, width, channels)]
    image.CopyFrom(helper.make_tensor_value_info(image.name, TensorProto.UINT8, sizes))
    return made


def _maker_of_values(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    """The node whose values the tensor `name` holds, perhaps in another shape or order; None for an input's."""
    producers = {output: node for node in graph.node for output in node.output}
    node = producers.get(name)
    while node is not None and node.op_type in ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"):
        node = producers.get(node.input[0])
    return node


def _limits(graph: onnx.GraphProto, clip: onnx.NodeProto) -> list[float]:
    constants = constants_of(graph)
    return [constants[name].item() for name in clip.input[1:] if name in constants]


def with_fixed_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """The batch axis as the number `batch`, in the shapes that are reshaped to as well.

    What needs this is OpenCV 4, which also wants transposed convolutions that take off as much at the end as before.
    """
    made = deepcopy(model)
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    if any(node.op_type == "Shape" for node in made.graph.node):  # it is known now
        made = clean(onnxscript.optimizer.optimize(made))
    try:
        inferred = onnx.shape_inference.infer_shapes(made, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise BundleError(f"the graph cannot have a batch of {batch}: {str(error).splitlines()[0]}") from error
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
    }
    for node in made.graph.node:
        shape = shapes.get(node.output[0], [])
        if node.op_type == "Reshape" and shape and all(shape):
            node.input[1] = f"{node.output[0]}_shape"
            made.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), node.input[1]))
    _pad_evenly(made.graph)
    return clean(made)  # without the constants that nothing uses now


def _pad_evenly(graph: onnx.GraphProto) -> None:
    """Zeros at one end of a transposed convolution's kernel where less is taken off there, so that as much can be."""
    constants = constants_of(graph)
    for node in graph.node:
        if node.op_type != "ConvTranspose" or node.input[1] not in constants:
            continue
        weight = constants[node.input[1]]
        attributes = {item.name: item for item in node.attribute}
        sides = weight.ndim - 2
        pads = list(attributes["pads"].ints) if "pads" in attributes else [0] * 2 * sides
        if pads[:sides] == pads[sides:] or "dilations" in attributes:
            continue
        most = [max(pads[side], pads[side + sides]) for side in range(sides)]
        zeros = [(most[side] - pads[side], most[side] - pads[side + sides]) for side in range(sides)]
        weight = np.pad(weight, [(0, 0), (0, 0), *zeros])
        node.input[1] = f"{node.output[0]}_even"
        graph.initializer.append(numpy_helper.from_array(weight, node.input[1]))
        attributes["pads"].ints[:] = most * 2
        attributes["kernel_shape"].ints[:] = weight.shape[2:]
