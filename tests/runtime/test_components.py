from __future__ import annotations

import numpy as np
import pytest
from vae_gen.evaluation import components as module
from vae_gen.evaluation.components import evenly_spaced, fit_components

from tests.runtime import reference


def pictures(count: int, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Images that vary along a few directions, by different amounts, and a little along all."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(5, int(np.prod(shape))))
    weights = rng.normal(size=(count, 5)) * [0.1, 0.07, 0.05, 0.03, 0.02]
    flat = 0.5 + weights @ directions + rng.normal(0, 0.005, (count, directions.shape[1]))
    return reference.round_half_up(np.clip(flat, 0, 1)).reshape(count, *shape)


def by_svd(images: np.ndarray, most: int) -> np.ndarray:
    rows = images.reshape(len(images), -1) / 255
    return np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[2][:most].T


@pytest.mark.parametrize(
    ("count", "shape"),
    [(300, (3, 5, 4)), (40, (3, 5, 4)), (200, (1, 9, 10)), (90, (1, 9, 10))],
    ids=["covariance", "Gram", "covariance of 64", "as many images as values"],
)
def test_they_are_the_leading_right_singular_vectors(count: int, shape: tuple[int, int, int]) -> None:
    images = pictures(count, shape)
    found = fit_components(images)
    expected = by_svd(images, 64)[:, : min(count - 1, 64)]
    assert found.count == min(count - 1, 64, int(np.prod(shape)))
    assert found.fitted_on == count
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(found.count), atol=1e-9)
    projector, expected_projector = (basis[:, :5] @ basis[:, :5].T for basis in (found.basis, expected))
    np.testing.assert_allclose(projector, expected_projector, atol=1e-9)
    rows = images.reshape(count, -1) / 255
    np.testing.assert_allclose(found.project(images), (rows - rows.mean(axis=0)) @ found.basis, atol=1e-12)


def test_blocks_and_the_choice_of_images_change_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(150, (3, 10, 8))
    whole = fit_components(images)
    monkeypatch.setattr(module, "VALUES_AT_A_TIME", 1000)
    blocks = fit_components(images)
    np.testing.assert_allclose(blocks.basis @ blocks.basis.T, whole.basis @ whole.basis.T, atol=1e-9)
    monkeypatch.setattr(module, "COVARIANCE_VALUES", 200)
    monkeypatch.setattr(module, "GRAM_IMAGES", 70)
    fewer = fit_components(images)
    assert fewer.fitted_on == 70
    expected = fit_components(images[np.arange(70) * 150 // 70])
    np.testing.assert_array_equal(fewer.basis, expected.basis)


def test_large_colour_images() -> None:
    images = pictures(20, (3, 256, 256))
    found = fit_components(images)
    assert found.basis.shape == (3 * 256 * 256, 19)
    between = found.project(images)
    flat = images.reshape(20, -1) / 255
    # 19 components hold all that 20 images differ by, so every distance is kept.
    assert np.linalg.norm(between[3] - between[11]) == pytest.approx(np.linalg.norm(flat[3] - flat[11]))


def test_images_that_are_all_alike_have_none() -> None:
    for value in (0, 7, 255):
        assert fit_components(np.full((80, 3, 5, 4), value, np.uint8)).count == 0
        assert fit_components(np.full((20, 3, 5, 4), value, np.uint8)).count == 0


def test_a_subset_is_evenly_spaced() -> None:
    assert evenly_spaced(3, 10).tolist() == [0, 1, 2]
    assert evenly_spaced(10, 4).tolist() == [0, 2, 5, 7]
    assert evenly_spaced(0, 4).tolist() == []
