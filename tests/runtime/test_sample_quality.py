from __future__ import annotations

import math

import numpy as np
import pytest
from vae_gen.evaluation import sample_quality as module
from vae_gen.evaluation.sample_quality import (
    Neighbourhoods,
    Overlap,
    frechet_distance,
    gaussian_frechet_distance,
    nearest_distances,
    overlap,
)

from tests.runtime.overlap_by_loops import by_loops


def with_moments(mean: np.ndarray, covariance: np.ndarray, count: int = 500) -> np.ndarray:
    """Points whose mean and covariance (denominator n - 1) are exactly these."""
    raw = np.random.default_rng(3).normal(size=(count, len(mean)))
    centred = raw - raw.mean(axis=0)
    white = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T))).T
    return mean + white @ np.linalg.cholesky(covariance).T


def test_frechet_distance_of_gaussians_with_diagonal_covariances() -> None:
    mean, variances = np.array([1.0, -2, 0, 3]), np.array([4.0, 1, 9, 0.25])
    other_mean, other_variances = np.array([0.0, -2, 2, 3]), np.array([1.0, 1, 16, 2.25])
    expected = (1 + 4) + (2 - 1) ** 2 + 0 + (3 - 4) ** 2 + (0.5 - 1.5) ** 2
    found = gaussian_frechet_distance(mean, np.diag(variances), other_mean, np.diag(other_variances))
    assert found == pytest.approx(expected, rel=1e-12)
    points, others = with_moments(mean, np.diag(variances)), with_moments(other_mean, np.diag(other_variances))
    assert frechet_distance(points, others) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_gaussians_whose_covariances_do_not_commute() -> None:
    # In two dimensions tr((S S')^(1/2)) = sqrt(tr(S S') + 2 sqrt(det(S S'))), by Cayley and Hamilton.
    covariance, other = np.array([[2.0, 1], [1, 3]]), np.array([[5.0, -1], [-1, 1]])
    assert not np.allclose(covariance @ other, other @ covariance)
    trace, determinant = 10 - 1 + -1 + 3, (6 - 1) * (5 - 1)
    expected = 9 + 16 + 5 + 6 - 2 * math.sqrt(trace + 2 * math.sqrt(determinant))
    zero, mean = np.zeros(2), np.array([3.0, 4])
    assert gaussian_frechet_distance(zero, covariance, mean, other) == pytest.approx(expected, rel=1e-12)
    assert gaussian_frechet_distance(mean, other, zero, covariance) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(with_moments(zero, covariance), with_moments(mean, other)) == pytest.approx(expected)


def test_frechet_distance_of_equal_and_of_flat_sets() -> None:
    points = np.random.default_rng(0).normal(size=(30, 64))
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-6)  # singular: fewer points than dimensions
    assert frechet_distance(points, points + 0.5) == pytest.approx(64 / 4)
    assert frechet_distance(np.zeros((3, 2)), np.array([[1.0, 1], [1, 1]])) == 2


def test_a_set_has_all_in_common_with_itself() -> None:
    for count in (6, 400):
        balls = Neighbourhoods.of(np.random.default_rng(0).normal(size=(count, 8)))
        assert overlap(balls, balls) == Overlap(precision=1, recall=1, density=1, coverage=1)


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_points_of_which_more_than_k_are_equal_have_empty_balls(scale: float) -> None:
    random = np.random.default_rng(0)
    copied, alone = scale * (3 + random.normal(size=(60, 64))), scale * (3 + random.normal(size=(140, 64)))
    balls = Neighbourhoods.of(np.concatenate([copied.repeat(6, axis=0), alone]))  # with k = 5
    found = overlap(balls, balls)
    assert (found.precision, found.recall, found.coverage) == (0.28, 0.28, 0.28)
    with_one_less = Neighbourhoods.of(np.concatenate([copied.repeat(5, axis=0), alone]))
    found = overlap(with_one_less, with_one_less)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)


def test_sets_far_apart_have_nothing_in_common() -> None:
    points = np.random.default_rng(0).normal(size=(50, 8))
    found = overlap(Neighbourhoods.of(points), Neighbourhoods.of(points + 100))
    assert found == Overlap(precision=0, recall=0, density=0, coverage=0)


def test_samples_on_one_spot_are_precise_and_cover_little() -> None:
    real = np.linspace(0, 1, 101)[:, None]
    spot = 0.5 + np.linspace(-1e-4, 1e-4, 40)[:, None]
    found = overlap(Neighbourhoods.of(real), Neighbourhoods.of(spot))
    assert found.precision == 1
    assert found.recall == pytest.approx(1 / 101)
    assert found.coverage < 0.1


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("distances_at_a_time", [2**22, 100, 1])
def test_overlap_by_the_definitions(monkeypatch: pytest.MonkeyPatch, k: int, distances_at_a_time: int) -> None:
    monkeypatch.setattr(module, "DISTANCES_AT_A_TIME", distances_at_a_time)
    rng = np.random.default_rng(k)
    real, samples = rng.normal(size=(40, 3)), rng.normal(0.7, 0.6, size=(25, 3))
    found = overlap(Neighbourhoods.of(real, k), Neighbourhoods.of(samples, k))
    expected = by_loops(real.tolist(), samples.tolist(), k)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected)
    assert len(set(expected)) == 4  # so that no two can be mistaken for each other


def test_balls_of_different_k_do_not_mix() -> None:
    points = np.random.default_rng(0).normal(size=(9, 2))
    with pytest.raises(ValueError, match="k is 5 for the real points and 4 for the samples"):
        overlap(Neighbourhoods.of(points), Neighbourhoods.of(points, 4))


@pytest.mark.parametrize("distances_at_a_time", [2**22, 100])
def test_nearest_distances(monkeypatch: pytest.MonkeyPatch, distances_at_a_time: int) -> None:
    monkeypatch.setattr(module, "DISTANCES_AT_A_TIME", distances_at_a_time)
    rng = np.random.default_rng(0)
    points, others = rng.normal(size=(20, 6)), rng.normal(size=(70, 6))
    others[33] = points[4]
    expected = [min(math.dist(point, other) for other in others) for point in points]
    found = nearest_distances(points, others)
    np.testing.assert_allclose(found, expected)
    assert found[4] == 0
