"""The gate: a bundle must compute what the PyTorch network computes, or it is not published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from vae_gen.errors import BundleError
from vae_gen.graph import Graph
from vae_gen.manifest import DECODER, ENCODER
from vae_gen.model import load

from vae_gen_export.sources import Exact, Rows, Source
from vae_gen_export.variants import Tolerance, Variant

BATCH_SIZES = (1, 3, 8)


@dataclass(frozen=True)
class Difference:
    """Between an output and its reference, relative to the largest magnitude in that, or to 1 if it is larger."""

    largest: float
    mean: float


def measure_parity(source: Source, paths: dict[str, Path], variant: Variant) -> dict[str, Difference]:
    """How much the files at `paths` differ from their source, for each output: the most at any of BATCH_SIZES.

    Through vae_gen.Model and, if they run on any batch, through graphs that run on exactly a batch at a time.
    Raises BundleError above the variant's tolerance, naming output and batch size, or if names or shapes differ.
    """
    model = load(paths[DECODER].parent if ENCODER in paths else paths[DECODER])
    through_model = {ENCODER: model.encode, DECODER: lambda z: (model.decode(z),)}
    random = np.random.default_rng(0)
    worst: dict[str, Difference] = {}
    for batch in BATCH_SIZES:
        inputs = {
            ENCODER: random.random((batch, *model.image_shape), np.float32),
            DECODER: random.standard_normal((batch, model.latent_dim), np.float32),
        }
        for file, path in paths.items():
            expected = source.reference(file, inputs[file])
            runs: list[Callable[[Rows], Sequence[Rows]]] = [through_model[file]]
            if variant.runs_any_batch:
                runs.append(Graph(path, threads=1, rows_per_run=batch).run)
            for run in runs:
                for (name, values), found in zip(expected.items(), run(inputs[file]), strict=True):
                    difference = _difference(name, values, found, batch, source.reference_name)
                    _check(name, difference, variant.tolerance(name), batch, source.reference_name)
                    before = worst.get(name, Difference(0, 0))
                    worst[name] = Difference(max(before.largest, difference.largest), max(before.mean, difference.mean))
    # Two digits say all; more would follow the number of threads that PyTorch happens to have.
    return {name: Difference(*(float(f"{value:.2g}") for value in astuple(each))) for name, each in worst.items()}


def _difference(name: str, expected: Exact, found: Rows, batch: int, reference: str) -> Difference:
    if found.shape != expected.shape:
        raise BundleError(f"{name} has shape {found.shape} at batch size {batch}; {reference} gives {expected.shape}")
    errors = np.abs(found - expected) / max(1.0, np.abs(expected).max())
    return Difference(float(errors.max()), float(errors.mean()))


def _check(name: str, found: Difference, allowed: Tolerance, batch: int, reference: str) -> None:
    for what, error, most in (("", found.largest, allowed.largest), (" in the mean", found.mean, allowed.mean)):
        if not error <= most:
            raise BundleError(
                f"{name} differs from {reference} by {error:.3g}{what} at batch size {batch}; at most {most:g} is "
                "allowed. Nothing was published"
            )
