"""The latents against an implementation in plain Python integers, from the papers' definitions."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from vae_gen.errors import UsageError
from vae_gen.latents import draw, normal_quantile

MASK = 2**64 - 1
KNOWN = (  # reference(7, 41, 5) and reference(7, 42, 5), as float32
    (-1.0480928, -0.32990184, 1.7098703, 1.8991852, 0.82598877),
    (-0.16945048, 0.69618034, -0.7718902, 1.4391841, 0.6810515),
)


def philox(counter: int, key: tuple[int, int]) -> list[int]:
    """Philox4x64-10, Salmon et al. 2011, section 3.3 and table 2."""
    words = [counter >> shift & MASK for shift in (0, 64, 128, 192)]
    k0, k1 = key
    for _ in range(10):
        product0, product1 = 0xD2E7470EE14C6C93 * words[0], 0xCA5A826395121157 * words[2]
        words = [product1 >> 64 ^ words[1] ^ k0, product1 & MASK, product0 >> 64 ^ words[3] ^ k1, product0 & MASK]
        k0, k1 = k0 + 0x9E3779B97F4A7C15 & MASK, k1 + 0xBB67AE8584CAA73B & MASK
    return words


def reference(seed: int, index: int, latent_dim: int) -> list[float]:
    blocks = math.ceil(latent_dim / 4)
    words = [word for block in range(blocks) for word in philox(1 + index * blocks + block, (seed, 0))]
    return [NormalDist().inv_cdf(((word >> 12) + 0.5) / 2**52) for word in words[:latent_dim]]


def test_the_reference_generator_gives_the_published_answers() -> None:
    # Random123's kat_vectors, philox4x64-10.
    zeros = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    ones = [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0]
    assert philox(0, (0, 0)) == zeros
    assert philox(2**256 - 1, (MASK, MASK)) == ones


@pytest.mark.parametrize("seed", [0, 1, 123456789, 2**64 - 1])
@pytest.mark.parametrize("latent_dim", [1, 3, 4, 8, 17])
@pytest.mark.parametrize("index", [0, 1, 1000, 2**40])
def test_draw_agrees_with_plain_python(seed: int, latent_dim: int, index: int) -> None:
    found = draw(seed, index, 1, latent_dim)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([reference(seed, index, latent_dim)], np.float32))


def test_known_answers() -> None:
    # From reference() above; they must never change, or every seed would give other images.
    np.testing.assert_array_equal(
        draw(7, 41, 2, 5),
        np.array(KNOWN, np.float32),
    )


def test_an_image_does_not_depend_on_which_others_are_drawn() -> None:
    together = draw(3, 0, 1000, 8)
    np.testing.assert_array_equal(draw(3, 990, 10, 8), together[990:])
    np.testing.assert_array_equal(np.concatenate([draw(3, i, 1, 8) for i in range(20)]), together[:20])


def test_draws_are_standard_normal_and_uncorrelated() -> None:
    z = draw(0, 0, 100_000, 6).astype(np.float64)
    # Each bound is five standard errors.
    assert np.abs(z.mean(0)).max() < 5 / math.sqrt(len(z))
    assert np.abs(z.var(0) - 1).max() < 5 * math.sqrt(2 / len(z))
    assert np.abs(np.corrcoef(z.T) - np.eye(6)).max() < 5 / math.sqrt(len(z))
    below = (z < 1.5).mean()
    assert abs(below - NormalDist().cdf(1.5)) < 5 * math.sqrt(0.25 / z.size)


def test_quantiles_agree_with_the_standard_library_into_the_tails() -> None:
    tails = np.array([2.0**-power for power in range(1, 54)])
    p = np.concatenate([tails, 1 - tails, np.linspace(0.001, 0.999, 999)])
    p = p[p < 1]
    expected = [NormalDist().inv_cdf(each) for each in p]
    np.testing.assert_allclose(normal_quantile(p), expected, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(UsageError, match=r"seed is .*between 0 and 2\*\*64 - 1"):
        draw(seed, 0, 1, 8)


@pytest.mark.parametrize("arguments", [(1.5, 0, 1), (1, 0.5, 1), (1, 0, 2.0), ("1", 0, 1)])
def test_what_is_no_whole_number_is_refused_and_not_rounded(arguments: tuple[object, object, object]) -> None:
    with pytest.raises(UsageError, match="must be a whole number"):
        draw(*arguments, 8)  # type: ignore[arg-type]


@pytest.mark.parametrize(("start", "count"), [(-1, 1), (2**63, 1), (2**63 - 1, 2)])
def test_an_index_out_of_range_is_refused(start: int, count: int) -> None:
    with pytest.raises(UsageError, match="indices run from 0"):
        draw(0, start, count, 8)
    with pytest.raises(UsageError, match="-1 images are asked for"):
        draw(0, 0, -1, 8)


def test_the_last_index_can_be_drawn() -> None:
    expected = np.array([reference(1, 2**63 - 1, 16)], np.float32)
    np.testing.assert_array_equal(draw(1, np.int64(2**63 - 1), 1, 16), expected)
