"""The oldest opset that a graph can be said to be of: some engines lag behind."""

from __future__ import annotations

from copy import deepcopy

import onnx

from vae_gen_export.simplify.view import View, attributes, own_opset

OLDEST = 13  # the first in which Split, Squeeze and their like take sizes and axes as inputs


def in_oldest_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in the oldest opset from OLDEST on in which ONNX's checker takes the same nodes.

    Between these opsets operators got more types and attributes; what the nodes mean did not change. (Split alone
    is written anew: where opset 18 has the number of its outputs, their sizes are the same in all.)
    """
    copy = deepcopy(model)
    _give_sizes(copy)
    ours = own_opset(copy)
    newest = ours.version
    for version in range(min(OLDEST, newest), newest):
        ours.version = version
        try:
            onnx.checker.check_model(copy, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
            continue
        return copy
    ours.version = newest
    return copy


def _give_sizes(model: onnx.ModelProto) -> None:
    view = View(model)
    names: dict[tuple[int, ...], str] = {}
    for node in model.graph.node:
        given = attributes(node)
        sizes = [view.shapes.get(name) for name in node.output]
        if node.op_type != "Split" or "num_outputs" not in given or None in sizes or given.get("axis", 0) < 1:
            continue
        along = tuple(size[given["axis"] - 1] for size in sizes if size)
        if along not in names:
            names[along] = view.unused_name(f"{node.input[0]}.sizes")
            tensor = onnx.helper.make_tensor(names[along], onnx.TensorProto.INT64, [len(along)], along)
            model.graph.initializer.append(tensor)
        node.input.append(names[along])
        (count,) = (attribute for attribute in node.attribute if attribute.name == "num_outputs")
        node.attribute.remove(count)
