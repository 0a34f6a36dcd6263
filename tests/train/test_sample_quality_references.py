"""The runtime's measures of sample quality beside scipy's and scikit-learn's numerics, which it does not need."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from vae_gen.evaluation.components import fit_components
from vae_gen.evaluation.sample_quality import Neighbourhoods, frechet_distance, nearest_distances, overlap


def sets(dimensions: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    real, samples = (rng.normal(size=(count, dimensions)) for count in (900, 700))
    return real @ rng.normal(size=(dimensions, dimensions)), samples @ rng.normal(size=(dimensions, dimensions)) + 1


def test_frechet_distance_by_the_square_root_of_a_matrix() -> None:
    real, samples = sets()
    covariances = np.cov(real.T), np.cov(samples.T)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.sum((real.mean(0) - samples.mean(0)) ** 2) + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(real, samples) == pytest.approx(expected, rel=1e-9)


def test_neighbours_by_a_tree() -> None:
    real, samples = sets(4)
    tree = NearestNeighbors(algorithm="kd_tree").fit(real)
    np.testing.assert_allclose(nearest_distances(samples, real), tree.kneighbors(samples, 1)[0][:, 0])
    balls, others = Neighbourhoods.of(real), Neighbourhoods.of(samples)
    radii = tree.kneighbors(real, 6)[0][:, 5]
    np.testing.assert_allclose(np.sqrt(balls.squared_radii), radii)
    found = overlap(balls, others)
    nearest = NearestNeighbors(algorithm="kd_tree").fit(samples).kneighbors(real, 1)[0][:, 0]
    assert found.coverage == (nearest < radii).mean()


def test_components_by_a_decomposition() -> None:
    rng = np.random.default_rng(0)
    images = (rng.random((400, 1, 9, 10)) * np.linspace(50, 255, 90).reshape(9, 10)).astype(np.uint8)
    other = (rng.random((30, 1, 9, 10)) * 255).astype(np.uint8)
    expected = PCA(64, svd_solver="full").fit(images.reshape(400, -1) / 255).transform(other.reshape(30, -1) / 255)
    found = fit_components(images).project(other)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-9)  # signs are arbitrary, and do not matter
