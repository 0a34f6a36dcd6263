"""The gate: a bundle must compute what the PyTorch network computes, or it is not published."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from vae_gen.errors import BundleError
from vae_gen.graph import Graph
from vae_gen.manifest import DECODER, ENCODER
from vae_gen.model import Model, load
from vae_gen_train.nets import VAE

BATCH_SIZES = (1, 3, 8)
TOLERANCE = 1e-5  # of the largest magnitude in the reference, or of 1 if that is larger

Array = npt.NDArray[np.float32]


def measure_parity(vae: VAE, bundle: Path) -> dict[str, float]:
    """The largest difference between the bundle and PyTorch in float64, for each output, relative as TOLERANCE is.

    Through vae_gen.Model, and through graphs that run on exactly a batch at a time, at BATCH_SIZES.
    Raises BundleError above TOLERANCE, naming output and batch size, or if names or shapes differ.
    """
    model = load(bundle)
    reference = copy.deepcopy(vae).cpu().eval().double()
    random = np.random.default_rng(0)
    worst: dict[str, float] = {}
    for batch in BATCH_SIZES:
        image = random.random((batch, *model.image_shape), np.float32)
        z = random.standard_normal((batch, model.latent_dim), np.float32)
        expected = _reference(reference, image, z)
        for found in (_through_model(model, image, z), _through_graphs(bundle, image, z)):
            for name, values in expected.items():
                error = _difference(name, values, found[name], batch)
                worst[name] = max(worst.get(name, 0.0), error)
    # Two digits say all; more would follow the number of threads that PyTorch happens to have.
    return {name: float(f"{error:.2g}") for name, error in worst.items()}


def _reference(vae: VAE, image: Array, z: Array) -> dict[str, npt.NDArray[np.float64]]:
    with torch.inference_mode():
        mean, log_var = vae.encoder(torch.from_numpy(image).double())
        decoded = vae.decoder(torch.from_numpy(z).double())
    return {"mean": mean.numpy(), "log_var": log_var.numpy(), "image": decoded.numpy()}


def _through_model(model: Model, image: Array, z: Array) -> dict[str, Array]:
    mean, log_var = model.encode(image)
    return {"mean": mean, "log_var": log_var, "image": model.decode(z)}


def _through_graphs(bundle: Path, image: Array, z: Array) -> dict[str, Array]:
    encoder, decoder = (Graph(bundle / name, threads=1, rows_per_run=len(z)) for name in (ENCODER, DECODER))
    mean, log_var = encoder.run(image)
    (decoded,) = decoder.run(z)
    return {"mean": mean, "log_var": log_var, "image": decoded}


def _difference(name: str, expected: npt.NDArray[np.float64], found: Array, batch: int) -> float:
    if found.shape != expected.shape:
        raise BundleError(f"{name} has shape {found.shape} at batch size {batch}; PyTorch gives {expected.shape}")
    error = float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
    if not error <= TOLERANCE:
        raise BundleError(
            f"{name} differs from PyTorch by {error:.3g} at batch size {batch}; at most {TOLERANCE:g} is allowed. "
            "Nothing was published"
        )
    return error
