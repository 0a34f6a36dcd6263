"""The gate: a bundle must compute what the PyTorch network computes, or it is not published.

Latents are drawn from N(0, I). Images are what the source decodes of them, with some noise, so that every weight of the
encoder counts: of noise alone, which it does not know, a flow's inverse may make anything, and rounding decides what.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from vae_gen.errors import BundleError
from vae_gen.graph import Graph
from vae_gen.manifest import DECODER, ENCODER
from vae_gen.model import load

from vae_gen_export.simplify.agreement import ROUNDING
from vae_gen_export.sources import Exact, Rows, Source
from vae_gen_export.variants import Tolerance, Variant

BATCH_SIZES = (1, 3, 8)
NOISE = 0.1  # of an image
ROUNDED_ROWS = 64  # by which it is found what float32 costs the source
BY_CHANCE = 4  # times that are allowed beside the tolerance: other orders of the same sums round otherwise


@dataclass(frozen=True)
class Difference:
    """Between an output and its reference, relative to the largest magnitude in that, or to 1 if it is larger."""

    largest: float
    mean: float


def measure_parity(source: Source, paths: dict[str, Path], variant: Variant) -> dict[str, Difference]:
    """How much the files at `paths` differ from their source, for each output: the most at any of BATCH_SIZES.

    Through vae_gen.Model and, if they run on any batch, through graphs that run on exactly a batch at a time.
    Raises BundleError above the variant's tolerance and what float32 costs the source itself, naming output and batch
    size, or if names or shapes differ.
    """
    model = load(paths[DECODER].parent if ENCODER in paths else paths[DECODER])
    through_model = {ENCODER: model.encode, DECODER: lambda z: (model.decode(z),)}
    random = np.random.default_rng(0)
    worst: dict[str, Difference] = {}
    allowed = _allowed(source, paths, variant, _inputs(source, ROUNDED_ROWS, random))
    for batch in BATCH_SIZES:
        inputs = _inputs(source, batch, random)
        for file, path in paths.items():
            expected = source.reference(file, inputs[file])
            runs: list[Callable[[Rows], Sequence[Rows]]] = [through_model[file]]
            if variant.runs_any_batch:
                runs.append(Graph(path, threads=1, rows_per_run=batch).run)
            for run in runs:
                for (name, values), found in zip(expected.items(), run(inputs[file]), strict=True):
                    difference = _difference(name, values, found, batch, source.reference_name)
                    _check(name, difference, allowed[name], batch, source.reference_name)
                    before = worst.get(name, Difference(0, 0))
                    worst[name] = Difference(max(before.largest, difference.largest), max(before.mean, difference.mean))
    # Two digits say all; more would follow the number of threads that PyTorch happens to have.
    return {name: Difference(*(float(f"{value:.2g}") for value in astuple(each))) for name, each in worst.items()}


def _inputs(source: Source, batch: int, random: np.random.Generator) -> dict[str, Rows]:
    """What each file is given: latents, and images [batch, C, H, W] in [0, 1]."""
    z = random.standard_normal((batch, source.latent_dim), np.float32)
    noise = random.random((batch, *source.image_shape), np.float32)
    images = (1 - NOISE) * source.reference(DECODER, z)["image"] + NOISE * noise
    return {DECODER: z, ENCODER: images.astype(np.float32)}


def _allowed(source: Source, paths: dict[str, Path], variant: Variant, rows: dict[str, Rows]) -> dict[str, Tolerance]:
    """What each output of the files may differ by."""
    allowed = {}
    for file in paths:
        in_float32 = source.in_float32(file, rows[file])
        for name, exact in source.reference(file, rows[file]).items():
            rounding = _difference(name, exact, in_float32[name], ROUNDED_ROWS, source.reference_name).largest
            by_chance = BY_CHANCE * rounding if rounding <= ROUNDING else 0.0  # else it is more than rounding
            allowed[name] = variant.tolerance(name) + Tolerance(by_chance, by_chance)
    return allowed


def _difference(name: str, expected: Exact, found: Rows | Exact, batch: int, reference: str) -> Difference:
    if found.shape != expected.shape:
        raise BundleError(f"{name} has shape {found.shape} at batch size {batch}; {reference} gives {expected.shape}")
    errors = np.abs(found - expected) / max(1.0, np.abs(expected).max())
    return Difference(float(errors.max()), float(errors.mean()))


def _check(name: str, found: Difference, allowed: Tolerance, batch: int, reference: str) -> None:
    for what, error, most in (("", found.largest, allowed.largest), (" in the mean", found.mean, allowed.mean)):
        if not error <= most:
            raise BundleError(
                f"{name} differs from {reference} by {error:.3g}{what} at batch size {batch}; at most {most:.3g} is "
                "allowed. Nothing was published; if it was folded, try --no-fold"
            )
