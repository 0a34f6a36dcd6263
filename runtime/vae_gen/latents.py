"""Latents: counter-based draws. numpy only.

Image i of seed s has the latents z[0] ... z[d-1], each standard normal, and they depend on s, i and d alone:

1.  Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") with the key (s, 0)
    turns the counter value 1 + i * b + k into four unsigned 64-bit words, b = ceil(d / 4), k = 0 ... b - 1.
2.  Word w[j] of these 4 b words, for j < d, becomes p = (floor(w[j] / 2^12) + 1/2) / 2^52, which lies in
    (0, 1), is exact in a double, and as far from 0 as 1 - p may be from 1.
3.  z[j] is the normal quantile of p by algorithm AS 241 (PPND16), computed in doubles, rounded to float32.

tests/runtime/test_latents.py does the same in plain Python integers and pins known answers.
"""

from __future__ import annotations

import math
import operator
import os
from numbers import Real

import numpy as np
import numpy.typing as npt

from vae_gen.defaults import MAX_TEMPERATURE
from vae_gen.errors import UsageError

Latents = npt.NDArray[np.float32]  # [n, latent_dim]
WORDS_PER_COUNTER = 4
MAX_SEED = 2**64 - 1
MAX_INDEX = 2**63 - 1


def fresh_seed() -> int:
    """A seed that nobody chose; short enough to be typed again."""
    return int.from_bytes(os.urandom(4))


def checked_seed(seed: int) -> int:
    """`seed` as Python's own number. Raises UsageError unless it is a whole one in 0 ... 2^64 - 1."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise UsageError(f"seed is {seed!r}; it must be a whole number")
    if not 0 <= operator.index(seed) <= MAX_SEED:
        raise UsageError(f"seed is {seed}; it must be between 0 and 2**64 - 1")
    return operator.index(seed)


def checked_temperature(temperature: float) -> float:
    """`temperature` as Python's own number. Raises UsageError unless it is in 0 ... MAX_TEMPERATURE."""
    if not (isinstance(temperature, Real) and 0 <= temperature <= MAX_TEMPERATURE):
        raise UsageError(f"temperature is {temperature!r}; it must be a number between 0 and {MAX_TEMPERATURE}")
    return float(temperature)


def check_range(seed: int, start: int, count: int) -> None:
    """Raise UsageError unless `seed` is in 0 ... 2^64 - 1 and start ... start + count - 1 in 0 ... 2^63 - 1."""
    checked_seed(seed)
    if count < 0:
        raise UsageError(f"{count} images are asked for; it must be at least 0")
    if start < 0 or start + count - 1 > MAX_INDEX:
        raise UsageError(f"images from {start} on are asked for, {count} of them; indices run from 0 to 2**63 - 1")


def draw(seed: int, start: int, count: int, latent_dim: int) -> Latents:
    """The latents of images start ... start + count - 1 of `seed`: float32 [count, latent_dim], N(0, 1).

    Raises UsageError if `seed` is not in 0 ... 2^64 - 1 or an index not in 0 ... 2^63 - 1, or no whole number.
    """
    try:
        seed, start, count = map(operator.index, (seed, start, count))  # numpy's integers would overflow
    except TypeError as error:
        given = {"seed": seed, "start": start, "count": count}
        name = next(name for name, value in given.items() if not hasattr(value, "__index__"))
        raise UsageError(f"{name} is {given[name]!r}; it must be a whole number") from error
    check_range(seed, start, count)
    counters = math.ceil(latent_dim / WORDS_PER_COUNTER)
    generator = np.random.Philox(key=seed, counter=start * counters)  # numpy adds 1 before it makes a block
    words = generator.random_raw(count * counters * WORDS_PER_COUNTER)
    words = words.reshape(count, counters * WORDS_PER_COUNTER)[:, :latent_dim]
    p = ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return normal_quantile(p).astype(np.float32)


# Wichura 1988, "Algorithm AS 241: the percentage points of the normal distribution", PPND16:
# numerator and denominator for the centre, the near and the far tail, highest power first.
_CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457)
    + (13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867)
    + (5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
)
_NEAR_TAIL = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258)
    + (3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459)
    + (0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0),
)
_FAR_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093)
    + (0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772),
    (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4)
    + (0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1.0),
)


def normal_quantile(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The x with P(N(0, 1) <= x) = p, for p in (0, 1), to about 1 part in 10^16 (AS 241, PPND16)."""
    q = p - 0.5
    x = _rational(_CENTRE, 0.180625 - q * q) * q
    tail = np.abs(q) > 0.425
    r = np.sqrt(-np.log(np.minimum(p[tail], 1 - p[tail])))
    x[tail] = np.copysign(np.where(r <= 5, _rational(_NEAR_TAIL, r - 1.6), _rational(_FAR_TAIL, r - 5)), q[tail])
    return x


def _rational(
    coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    values = []
    for first, *others in coefficients:
        value = np.full_like(x, first)
        for coefficient in others:  # Horner's rule, in place
            value *= x
            value += coefficient
        values.append(value)
    numerator, denominator = values
    numerator /= denominator
    return numerator
