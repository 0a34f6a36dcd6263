"""How alike two sets of points are: Frechet distance, precision, recall, density, coverage; numpy only.

Points are float64 [n, dimensions], distances Euclidean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vae_gen.evaluation.components import Points

NEIGHBOURS = 5  # k, as Naeem et al. 2020 chose it
ROUNDING = 1e-12  # of a squared length: by so much, and more than rounding, what lies on a ball's edge is outside
DISTANCES_AT_A_TIME = 2**22  # 32 MiB of doubles

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]


def frechet_distance(points: Points, others: Points) -> float:
    """The Frechet distance of the Gaussians with the means and covariances (denominator n - 1) of two sets.

    Each set needs two points at least. In squared units of the points, as Heusel et al. 2017 (FID) report it.
    """
    (mean, covariance), (other_mean, other_covariance) = _moments(points), _moments(others)
    return gaussian_frechet_distance(mean, covariance, other_mean, other_covariance)


def gaussian_frechet_distance(mean: Vector, covariance: Matrix, other_mean: Vector, other_covariance: Matrix) -> float:
    """|m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)) for means [d] and covariances [d, d].

    Dowson & Landau 1982. The trace of (S S')^(1/2) is that of (S^(1/2) S' S^(1/2))^(1/2), whose
    argument is symmetric.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ other_covariance @ root).clip(0)).sum()
    distance = np.sum((mean - other_mean) ** 2) + np.trace(covariance) + np.trace(other_covariance) - 2 * cross
    return max(0.0, float(distance))  # rounding can bring it below


def _moments(points: Points) -> tuple[Vector, Matrix]:
    mean = points.mean(axis=0)
    centred = points - mean
    return mean, centred.T @ centred / (len(points) - 1)


@dataclass(frozen=True)
class Neighbourhoods:
    """Points, and around each a ball that reaches to its k-th nearest neighbour among them, itself not counted."""

    points: Points
    squared_radii: Vector  # [n], below 0 where a ball is empty: k others are where the point is
    k: int

    @classmethod
    def of(cls, points: Points, k: int = NEIGHBOURS) -> Neighbourhoods:
        """The balls around more than `k` points."""
        blocks = [np.partition(each, k, axis=1)[:, k].copy() for _, each in _squared_distances(points, points)]
        return cls(points, np.concatenate(blocks) - ROUNDING * (points**2).sum(axis=1), k)


@dataclass(frozen=True)
class Overlap:
    """What two sets of points have in common; 1 is best, 0 worst, and density can exceed 1."""

    precision: float  # share of samples that lie in the ball of some real point
    recall: float  # share of real points that lie in the ball of some sample
    density: float  # in how many balls of real points a sample lies on average, divided by k
    coverage: float  # share of real points whose ball has a sample in it


def overlap(real: Neighbourhoods, samples: Neighbourhoods) -> Overlap:
    """Precision and recall of Kynkaanniemi et al. 2019, density and coverage of Naeem et al. 2020.

    Balls are open, as in the latter's program: a set has with itself a density of exactly 1, unless more than k of its
    points are equal, whose balls are empty. Raises ValueError if the two were made with different k.
    """
    if real.k != samples.k:
        raise ValueError(f"k is {real.k} for the real points and {samples.k} for the samples")
    in_some_ball = np.zeros(len(samples.points), bool)
    in_balls = recalled = covered = 0
    for block, distances in _squared_distances(real.points, samples.points):
        inside = distances < real.squared_radii[block, None]
        in_some_ball |= inside.any(axis=0)
        in_balls += int(np.count_nonzero(inside))
        covered += int(np.count_nonzero(inside.any(axis=1)))
        recalled += int(np.count_nonzero((distances < samples.squared_radii).any(axis=1)))
    return Overlap(
        precision=float(in_some_ball.mean()),
        recall=recalled / len(real.points),
        density=in_balls / (real.k * len(samples.points)),
        coverage=covered / len(real.points),
    )


def nearest_distances(points: Points, others: Points) -> Vector:
    """For each of `points` the distance to the nearest of `others`; 0, to the last bit, for a copy: [n]."""
    nearest = [distances.argmin(axis=1) for _, distances in _squared_distances(points, others)]
    return np.asarray(np.linalg.norm(points - others[np.concatenate(nearest)], axis=1))


def _squared_distances(points: Points, others: Points) -> Iterator[tuple[slice, Matrix]]:
    """Blocks of `points` with their squared distances to all `others`, to some 1e-15 of the squared lengths."""
    # |a - b|^2 = (-2a, |a|^2, 1) . (b, 1, |b|^2): one product, and no further pass over the matrix.
    left = np.column_stack([-2 * points, (points**2).sum(axis=1), np.ones(len(points))])
    right = np.column_stack([others, np.ones(len(others)), (others**2).sum(axis=1)]).T
    step = max(1, DISTANCES_AT_A_TIME // len(others))
    for first in range(0, len(points), step):
        block = slice(first, first + step)
        yield block, left[block] @ right
