"""Affine parts of a graph -> the cheapest forms that compute the same.

The nodes of a region stand in a row. Wherever one tensor alone is needed of all that was made before, a part may
begin; it may end anywhere, and makes what is still needed then. Which parts take which forms, so that the whole
region costs least, is found by dynamic programming over the places between the nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import onnx

from vae_gen_export.simplify.convolutions import convolution, transposed_convolution
from vae_gen_export.simplify.costs import multiply_adds
from vae_gen_export.simplify.forms import Choice, Cost, Form, Part, choices
from vae_gen_export.simplify.regions import Region, regions
from vae_gen_export.simplify.view import View, keep_shapes

Rejected = set[tuple[str, tuple[str, ...], str]]  # source, outputs, form


@dataclass(frozen=True)
class Rewrite:
    """One part of the graph that took another form."""

    outputs: tuple[str, ...]
    before: tuple[str, ...]  # operations
    after: tuple[str, ...]
    multiply_adds_before: int  # per row of the batch
    multiply_adds_after: int


def rewrite_affine(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[Rewrite]]:
    """`model` with each affine part in its cheapest form, and what was rewritten."""
    rewrites: list[Rewrite] = []
    rejected: Rejected = set()
    while True:
        view = View(model)
        found: list[Form] = []
        for whole, parts in regions(view):
            together = _improve(whole, rejected)
            apart = [form for part in parts for form in _improve(part, rejected)]
            found += max(together, apart, key=_saving)
        if not found:
            return model, rewrites
        rewrites += map(_describe, found)
        model = _replace(view, found)


def _improve(region: Region, rejected: Rejected) -> list[Form]:
    """The forms that make a region cheaper, built and compared with it; none if it is best as it is."""
    try:
        _ = region.probe
    except Exception:  # a shape that mixes rows, a variant that the evaluator does not know: not for us
        return []
    while True:
        plan = _cheapest(region, rejected)
        forms = []
        for part, choice in plan:
            form = _build(part, choice)
            if form is None:
                rejected.add((part.source, part.outputs, choice.name))
            else:
                forms.append(form)
        if len(forms) == len(plan):
            return forms


def _build(part: Part, choice: Choice) -> Form | None:
    """The form that was chosen for a part, if it can be built, is really cheaper, and computes the same."""
    try:
        form = choice.build(part)
        return form if form is not None and form.cost < part.cost and form.agrees() else None
    except Exception:  # as with the probe
        return None


def _cheapest(region: Region, rejected: Rejected) -> list[tuple[Part, Choice]]:
    view, numbers = region.view, region.nodes
    costs: list[Cost] = [(0, 0)]
    steps: list[tuple[int, tuple[Part, Choice] | None]] = [(0, None)]
    sources = [_only(_needed_later(region, begin)) for begin in range(len(numbers))]
    for end in range(1, len(numbers) + 1):
        best = _add(costs[end - 1], (multiply_adds(view, view.nodes[numbers[end - 1]]), 1))
        step: tuple[int, tuple[Part, Choice] | None] = (end - 1, None)
        for begin in range(end):
            if sources[begin] is None:
                continue
            for part, choice in _ways(region, str(sources[begin]), begin, end):
                cost = _add(costs[begin], choice.cost)
                if cost < best and (part.source, part.outputs, choice.name) not in rejected:
                    best, step = cost, (begin, (part, choice))
        costs.append(best)
        steps.append(step)

    plan: list[tuple[Part, Choice]] = []
    place = len(numbers)
    while place:
        place, chosen = steps[place]
        plan += [chosen] if chosen else []
    return plan[::-1]


def _ways(region: Region, source: str, begin: int, end: int) -> Iterator[tuple[Part, Choice]]:
    nodes = region.nodes[begin:end]
    inside = set(nodes)
    made = [name for number in nodes for name in region.view.nodes[number].output if name]
    outputs = tuple(name for name in made if region.view.is_used_outside(name, inside))
    if outputs:
        part = Part(region, source, nodes, outputs)
        for choice in (*choices(part), convolution(part), transposed_convolution(part)):
            if choice:
                yield part, choice


def _needed_later(region: Region, begin: int) -> set[str]:
    """What the nodes from the place `begin` on take of what was there before."""
    view, rest = region.view, region.nodes[begin:]
    taken = {view.nodes[number].input[each] for number in rest for each in view.variable_inputs(view.nodes[number])}
    return taken - {name for number in rest for name in view.nodes[number].output}


def _only(names: set[str]) -> str | None:
    return next(iter(names)) if len(names) == 1 else None


def _saving(forms: Iterable[Form]) -> Cost:
    saved = (0, 0)
    for form in forms:
        before, after = form.part.cost, form.cost
        saved = _add(saved, (before[0] - after[0], before[1] - after[1]))
    return saved


def _add(first: Cost, second: Cost) -> Cost:
    return first[0] + second[0], first[1] + second[1]


def _describe(form: Form) -> Rewrite:
    part = form.part
    return Rewrite(
        part.outputs,
        part.operations,
        tuple(node.op_type for node in form.nodes),
        part.cost[0],
        form.cost[0],
    )


def _replace(view: View, forms: list[Form]) -> onnx.ModelProto:
    """A copy of the graph with the forms' nodes where the first of those that they replace stood."""
    first = {min(form.part.nodes): form for form in forms}
    gone = {number for form in forms for number in form.part.nodes}
    model = deepcopy(view.model)
    del model.graph.node[:]
    for number, node in enumerate(view.nodes):
        if number in first:
            model.graph.node.extend(first[number].nodes)
        if number not in gone:
            model.graph.node.append(node)
    for form in forms:
        model.graph.initializer.extend(form.tensors())
    keep_shapes(model.graph, {name for node in model.graph.node for name in node.output})
    return model
