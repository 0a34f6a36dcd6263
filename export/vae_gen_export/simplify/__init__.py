"""Exact simplification of ONNX graphs: the same function, in fewer multiply-adds.

Nothing here knows of autoencoders. `costs` says what is counted, `affine` finds chains that are one affine map and
gives them their cheapest form, `channels` takes out what makes no difference, `tidy` computes constants and drops
what is there twice or for nobody.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

import onnx

from vae_gen_export.silence import silence
from vae_gen_export.simplify.affine import Rewrite, rewrite_affine
from vae_gen_export.simplify.channels import Removal, remove_channels
from vae_gen_export.simplify.costs import total_multiply_adds
from vae_gen_export.simplify.endings import reshape_early
from vae_gen_export.simplify.tidy import store_in_half, tidy
from vae_gen_export.simplify.view import View, keep_shapes


@dataclass(frozen=True)
class Simplification:
    """What was done to a graph; multiply-adds are those of one row of the batch."""

    multiply_adds_before: int
    multiply_adds_after: int
    rewrites: tuple[Rewrite, ...]
    removals: tuple[Removal, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it, rewrites that are alike taken together."""
        alike: Counter[tuple[Any, ...]] = Counter(
            (each.before, each.after, each.multiply_adds_before, each.multiply_adds_after) for each in self.rewrites
        )
        names = ("before", "after", "multiply_adds_before", "multiply_adds_after")
        return {
            "multiply_adds_before": self.multiply_adds_before,
            "multiply_adds_after": self.multiply_adds_after,
            "rewrites": [{"times": times, **dict(zip(names, row, strict=True))} for row, times in alike.items()],
            "removals": [dataclasses.asdict(each) for each in self.removals],
        }

    def lines(self) -> list[str]:
        """What was done, for people."""
        rewrites = [
            f"{_times(each['times'])}{' '.join(each['before'])} -> {' '.join(each['after'])}: "
            f"{each['multiply_adds_before']:,} -> {each['multiply_adds_after']:,} multiply-adds"
            for each in self.as_dict()["rewrites"]
        ]
        removals = [
            f"{each.output}: {each.removed} of {each.removed + each.remaining} channels taken out"
            for each in self.removals
        ]
        return rewrites + removals


def simplify(model: onnx.ModelProto, fold: bool = True) -> tuple[onnx.ModelProto, Simplification]:
    """A graph that computes the same as `model` up to rounding, at no greater cost, and what was done.

    Inputs, outputs, opset, metadata and doc strings stay. The batch is the first axis. Without `fold` a graph is only
    tidied, as is what does not compute in float32; one that holds others (If, Loop) or sparse tensors is left as it is.
    """
    with silence():  # of weights that are not finite, and of what onnx_ir leaves out
        return _simplified(model, fold)


def _simplified(model: onnx.ModelProto, fold: bool) -> tuple[onnx.ModelProto, Simplification]:
    left_alone = _is_beyond(model.graph)
    simplified = model if left_alone else tidy(model)
    before = total_multiply_adds(View(simplified))
    rewrites: list[Rewrite] = []
    removals: list[Removal] = []
    while fold and not left_alone:
        simplified = reshape_early(simplified)
        simplified, removed = remove_channels(simplified)
        simplified, rewritten = rewrite_affine(simplified)
        removals += removed
        rewrites += rewritten
        if not removed and not rewritten:
            break
        simplified = tidy(simplified)
    after = total_multiply_adds(View(simplified))
    if not left_alone:
        store_in_half(simplified, model)
    keep_shapes(simplified.graph, {value.name for value in model.graph.value_info})
    return simplified, Simplification(before, after, tuple(rewrites), tuple(removals))


def _times(number: int) -> str:
    return "" if number == 1 else f"{number} x "


def _is_beyond(graph: onnx.GraphProto) -> bool:
    found = [attribute for node in graph.node for attribute in node.attribute]
    sparse = graph.sparse_initializer or any(attribute.HasField("sparse_tensor") for attribute in found)
    return bool(sparse) or any(attribute.HasField("g") or attribute.graphs for attribute in found)
