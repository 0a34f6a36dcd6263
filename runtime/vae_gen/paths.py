"""Paths through the latent space: one latent swept, and the ways from one point to another. numpy only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vae_gen.errors import UsageError
from vae_gen.latents import Latents

OPPOSITE = 1e-6  # radians from the opposite direction; rounding to float32 turns a point by up to a tenth of that


def check_dim(dim: int, latent_dim: int) -> None:
    """Raise UsageError unless there is such a latent."""
    if not 0 <= dim < latent_dim:
        raise UsageError(f"dim is {dim}; the model has {latent_dim} latents, numbered 0 to {latent_dim - 1}")


def traversal(z: Latents, dim: int, values: npt.NDArray[np.floating]) -> Latents:
    """One point [latent_dim], with latent `dim` (counted from 0) set to each of `values` in turn: [n, latent_dim].

    Raises UsageError if there is no such latent.
    """
    check_dim(dim, len(z))
    path = np.tile(z.astype(np.float32), (len(values), 1))
    path[:, dim] = values
    return path


def linear(start: Latents, end: Latents, count: int) -> Latents:
    """`count` points, evenly along the straight line between two [latent_dim], both included: [count, latent_dim].

    Raises UsageError if the points are not of one size and of finite numbers, or there are to be fewer than 2.
    """
    start, end = _checked(start, end, count)
    t = _places(count)
    return _with_ends(start, end, (1 - t) * start + t * end)


def spherical(start: Latents, end: Latents, count: int) -> Latents:
    """`count` points from one [latent_dim] to another, both included, about the origin: [count, latent_dim].

    The direction turns evenly along the shorter great circle (Shoemake 1985, "Animating rotation with quaternion
    curves", section 3.3), as White proposed for latents (2016, "Sampling generative networks", section 2): draws from
    N(0, I) have norms near the square root of latent_dim, and a straight line between two passes through smaller ones.
    The norm, which is 1 in Shoemake's formula, changes evenly from one end's to the other's. Between points in one
    direction, and from or to the origin, that is the straight line.
    Raises UsageError as `linear` does, and if the points lie in opposite directions: all great circles between those
    are as short.
    """
    start, end = _checked(start, end, count)
    norms = [float(np.linalg.norm(point.astype(np.float64))) for point in (start, end)]
    if not all(norms):
        return linear(start, end, count)
    u, v = (point.astype(np.float64) / norm for point, norm in zip((start, end), norms, strict=True))
    across = v - (u @ v) * u  # in the plane of both, at right angles to u
    sine = float(np.linalg.norm(across))
    angle = np.arctan2(sine, u @ v)
    if np.pi - angle < OPPOSITE:
        raise UsageError(
            "these points lie in opposite directions, and no way round is the shortest; --path linear goes through the "
            "origin, and a point between them says which way"
        )
    if not sine:
        return linear(start, end, count)
    t = _places(count)
    directions = np.cos(t * angle) * u + np.sin(t * angle) * across / sine
    return _with_ends(start, end, ((1 - t) * norms[0] + t * norms[1]) * directions)


def _checked(start: npt.ArrayLike, end: npt.ArrayLike, count: int) -> tuple[Latents, Latents]:
    """The ends as arrays."""
    points = [np.asarray(point) for point in (start, end)]
    for point in points:
        if point.ndim != 1 or point.dtype.kind not in "iuf" or not np.isfinite(point).all():
            raise UsageError(f"a point of a path is {point!r:.60}; it must be [latent_dim], of finite numbers")
    if len(points[0]) != len(points[1]):
        raise UsageError(f"a path leads from {len(points[0])} latents to {len(points[1])}; they must be as many")
    if count < 2:
        raise UsageError(f"a path is to have {count} points; it needs at least its 2 ends")
    return points[0], points[1]


def _places(count: int) -> npt.NDArray[np.float64]:
    """0 ... 1 as a column."""
    return np.linspace(0, 1, count)[:, None]


def _with_ends(start: Latents, end: Latents, points: npt.NDArray[np.float64]) -> Latents:
    """The points as float32, the first and the last to the very bit."""
    path = points.astype(np.float32)
    path[0], path[-1] = start, end
    return path
