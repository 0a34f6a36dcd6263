"""Precision, recall, density and coverage by their definitions, in plain Python."""

from __future__ import annotations

import math


def by_loops(real: list[list[float]], samples: list[list[float]], k: int) -> tuple[float, ...]:
    """Naeem et al. 2020, section 3, and Kynkaanniemi et al. 2019, section 2, a point at a time."""

    def radii(points: list[list[float]]) -> list[float]:
        return [
            sorted(math.dist(point, other) for number, other in enumerate(points) if number != own)[k - 1]
            for own, point in enumerate(points)
        ]

    real_radii, sample_radii = radii(real), radii(samples)
    precise = dense = recalled = covered = 0
    for sample in samples:
        inside = [math.dist(sample, point) < radius for point, radius in zip(real, real_radii, strict=True)]
        precise += any(inside)
        dense += sum(inside)
    for point, radius in zip(real, real_radii, strict=True):
        recalled += any(math.dist(point, s) < r for s, r in zip(samples, sample_radii, strict=True))
        covered += min(math.dist(point, sample) for sample in samples) < radius
    return precise / len(samples), recalled / len(real), dense / (k * len(samples)), covered / len(real)
