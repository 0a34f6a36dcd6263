"""The batch generator: draw -> decode -> write, in chunks of constant size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from vae_gen.defaults import BATCH_SIZE
from vae_gen.errors import UsageError
from vae_gen.images import to_uint8
from vae_gen.latents import Latents, check_range, draw
from vae_gen.model import Model
from vae_gen.writers import Writer


def drawn(
    latent_dim: int, *, seed: int, start: int, count: int, batch_size: int = BATCH_SIZE, temperature: float = 1.0
) -> Iterator[Latents]:
    """The latents of images start ... start + count - 1 of `seed`, in chunks of `batch_size`.

    Raises UsageError, before anything is drawn, if a value is out of range.
    """
    if count < 1:
        raise UsageError(f"n is {count}; it must be at least 1")
    check_range(seed, start, count)
    end = start + count
    return (
        draw(seed, first, min(batch_size, end - first), latent_dim) * np.float32(temperature)
        for first in range(start, end, batch_size)
    )


def chunks(z: Latents, batch_size: int = BATCH_SIZE) -> Iterator[Latents]:
    """Given latents [n, latent_dim] in chunks of `batch_size`."""
    return (z[first : first + batch_size] for first in range(0, len(z), batch_size))


def generate(
    model: Model,
    latents: Iterable[Latents],
    writer: Writer,
    start: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Decode chunks of latents and write the images, with indices from `start` on.

    `progress` is called after every chunk with the number of images it had.
    Raises OutputError if they cannot be written, DataError if the latents do not fit the model.
    """
    first = start
    for z in latents:
        writer.write(first, to_uint8(model.decode(z)))
        first += len(z)
        progress(len(z))
