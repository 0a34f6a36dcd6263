"""The gate: a bundle must compute what the PyTorch network computes, or it is not published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from vae_gen.errors import BundleError
from vae_gen.graph import Graph
from vae_gen.manifest import DECODER, ENCODER
from vae_gen.model import load

from vae_gen_export.source import Exact, Rows, Source

BATCH_SIZES = (1, 3, 8)
TOLERANCE = 1e-5  # of the largest magnitude in the reference, or of 1 if that is larger


def measure_parity(source: Source, paths: dict[str, Path]) -> dict[str, float]:
    """The largest difference between the files at `paths` and their source, for each output, relative as TOLERANCE is.

    Through vae_gen.Model, and through graphs that run on exactly a batch at a time, at BATCH_SIZES.
    Raises BundleError above TOLERANCE, naming output and batch size, or if names or shapes differ.
    """
    model = load(paths[DECODER].parent if ENCODER in paths else paths[DECODER])
    through_model = {ENCODER: model.encode, DECODER: lambda z: (model.decode(z),)}
    random = np.random.default_rng(0)
    worst: dict[str, float] = {}
    for batch in BATCH_SIZES:
        inputs = {
            ENCODER: random.random((batch, *model.image_shape), np.float32),
            DECODER: random.standard_normal((batch, model.latent_dim), np.float32),
        }
        for file, path in paths.items():
            expected = source.reference(file, inputs[file])
            exact_batch = Graph(path, threads=1, rows_per_run=batch)
            for run in (through_model[file], exact_batch.run):
                for (name, values), found in zip(expected.items(), run(inputs[file]), strict=True):
                    worst[name] = max(worst.get(name, 0.0), _difference(name, values, found, batch))
    # Two digits say all; more would follow the number of threads that PyTorch happens to have.
    return {name: float(f"{error:.2g}") for name, error in worst.items()}


def _difference(name: str, expected: Exact, found: Rows, batch: int) -> float:
    if found.shape != expected.shape:
        raise BundleError(f"{name} has shape {found.shape} at batch size {batch}; PyTorch gives {expected.shape}")
    error = float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
    if not error <= TOLERANCE:
        raise BundleError(
            f"{name} differs from PyTorch by {error:.3g} at batch size {batch}; at most {TOLERANCE:g} is allowed. "
            "Nothing was published"
        )
    return error
