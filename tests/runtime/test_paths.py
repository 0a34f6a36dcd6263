"""Paths through the latent space, against circles and lines of which every point is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from vae_gen.errors import UsageError
from vae_gen.latents import draw
from vae_gen.paths import linear, spherical, traversal


def f32(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def test_a_traversal_changes_one_latent_alone() -> None:
    z = np.array([0.5, -1.0, 2.0], np.float32)
    path = traversal(z, 1, np.array([-2.0, 0.0, 3.0]))
    np.testing.assert_array_equal(path, np.array([[0.5, -2, 2], [0.5, 0, 2], [0.5, 3, 2]], np.float32))
    np.testing.assert_array_equal(z, np.array([0.5, -1.0, 2.0], np.float32))


@pytest.mark.parametrize("dim", [-1, 3])
def test_a_traversal_of_a_latent_that_is_not_there_is_refused(dim: int) -> None:
    with pytest.raises(UsageError, match=f"dim is {dim}; the model has 3 latents, numbered 0 to 2"):
        traversal(np.zeros(3, np.float32), dim, np.zeros(2))


def test_a_straight_line_is_divided_evenly() -> None:
    path = linear(f32(1, -2, 8), f32(3, 2, 0), 5)
    assert path.tolist() == [[1, -2, 8], [1.5, -1, 6], [2, 0, 4], [2.5, 1, 2], [3, 2, 0]]
    assert path.dtype == np.float32


@pytest.mark.parametrize("degrees", [1e-4, 1, 90, 123, 179, 179.9])
@pytest.mark.parametrize("norms", [(1, 1), (3, 3), (0.5, 4)])
def test_a_spherical_path_turns_evenly_and_changes_its_norm_evenly(degrees: float, norms: tuple[float, float]) -> None:
    # The circle in the plane of two directions at right angles, in 16 dimensions, from 20 degrees on.
    count = 7
    plane, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 2)))
    angles = np.radians(20 + np.linspace(0, degrees, count))
    expected = (np.linspace(*norms, count) * (plane @ [np.cos(angles), np.sin(angles)])).T
    path = spherical(expected[0].astype(np.float32), expected[-1].astype(np.float32), count)
    # Near the opposite direction, the plane is less sure the smaller the angle between.
    np.testing.assert_allclose(path, expected, rtol=0, atol=max(norms) * 2e-7 * max(1, 57 / (180 - degrees)))


def test_a_quarter_turn_in_thirds() -> None:
    path = spherical(f32(2, 0), f32(0, 2), 4)
    np.testing.assert_allclose(path, [[2, 0], [3**0.5, 1], [1, 3**0.5], [0, 2]], atol=1e-7)


def test_a_spherical_path_between_draws_has_norms_that_draws_have_and_a_straight_one_has_not() -> None:
    first, second = draw(0, 0, 2, 400)
    ends = np.linalg.norm(first), np.linalg.norm(second)
    norms = np.linalg.norm(spherical(first, second, 9), axis=1)
    np.testing.assert_allclose(norms, np.linspace(*ends, 9), rtol=1e-6)
    assert np.linalg.norm(linear(first, second, 9), axis=1).min() < 0.8 * min(ends)


@pytest.mark.parametrize("between", [linear, spherical])
def test_both_ends_are_there_to_the_last_bit(between: Callable[..., np.ndarray]) -> None:
    for start, end in (*draw(1, 0, 100, 10).reshape(50, 2, 10), (f32(-0.0, 1), f32(0.0, 2)), (f32(1, 2), f32(-0.0, 5))):
        path = between(start, end, 5)
        assert path.dtype == np.float32
        assert path[0].tobytes() == start.tobytes()
        assert path[-1].tobytes() == end.tobytes()


@pytest.mark.parametrize("between", [linear, spherical])
def test_there_and_back_are_the_same_points(between: Callable[..., np.ndarray]) -> None:
    start, end = draw(2, 0, 2, 16)
    np.testing.assert_allclose(between(start, end, 8), between(end, start, 8)[::-1], atol=5e-7)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (f32(0, 0, 0), f32(1, -2, 4)),
        (f32(1, -2, 4), f32(0, 0, 0)),
        (f32(0, 0, 0), f32(0, 0, 0)),
        (f32(1, -2, 4), f32(1, -2, 4)),
        (f32(1, -2, 4), f32(3, -6, 12)),
        (f32(0.1, -0.2, 0.3), f32(0.7, -1.4, 2.1)),  # in one direction but for rounding
    ],
)
def test_where_there_is_nothing_to_turn_a_spherical_path_is_straight(start: np.ndarray, end: np.ndarray) -> None:
    expected = [(1 - t) * start.astype(float) + t * end.astype(float) for t in (0, 0.25, 0.5, 0.75, 1)]
    np.testing.assert_allclose(spherical(start, end, 5), expected, rtol=2e-7)


@pytest.mark.parametrize(
    "end", [f32(-1, 2, -4), f32(-0.7, 1.4, -2.8), -np.float32(1 / 3) * f32(1, 2, -4) * f32(1, -1, -1)]
)
def test_opposite_points_have_no_shortest_way(end: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"opposite directions.*; --path linear goes through the origin"):
        spherical(f32(1, -2, 4), end, 5)
    assert np.isfinite(linear(f32(1, -2, 4), end, 5)).all()


@pytest.mark.parametrize("between", [linear, spherical])
@pytest.mark.parametrize(
    ("start", "end", "count", "message"),
    [
        ([1.0, 2.0], [3.0, 4.0], 1, "a path is to have 1 points; it needs at least its 2 ends"),
        ([1.0, 2.0], [3.0, 4.0], -1, "a path is to have -1 points"),
        ([1.0, 2.0], [3.0, 4.0, 5.0], 3, "a path leads from 2 latents to 3; they must be as many"),
        ([1.0, np.nan], [3.0, 4.0], 3, "must be .latent_dim., of finite numbers"),
        ([1.0, 2.0], [np.inf, 4.0], 3, "must be .latent_dim., of finite numbers"),
        ([[1.0, 2.0]], [3.0, 4.0], 3, "must be .latent_dim., of finite numbers"),
    ],
    ids=str,
)
def test_what_has_no_path_is_refused(
    between: Callable[..., np.ndarray], start: list[float], end: list[float], count: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        between(start, end, count)
    np.testing.assert_array_equal(between([1.0, 0.0], [0.0, 1.0], 2), [[1, 0], [0, 1]])


def test_the_largest_numbers_do_not_overflow() -> None:
    largest = np.finfo(np.float32).max
    for between in (linear, spherical):
        path = between(f32(largest, 0), f32(0, largest), 3)
        assert np.isfinite(path).all()
