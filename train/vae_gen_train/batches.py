"""Which images each training step sees."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt


def batches(seed: int, images: int, batch_size: int, first_step: int) -> Iterator[npt.NDArray[np.int64]]:
    """The indices of each step's images, from `first_step` (counted from 0) on, without end.

    The data is read in epochs, each in an order that (seed, epoch) alone decides, one after the other
    without a gap: a batch may end one epoch and begin the next.
    """
    epoch, offset = divmod(first_step * batch_size, images)
    order = _epoch_order(seed, epoch, images)[offset:]
    while True:
        while len(order) < batch_size:
            epoch += 1
            order = np.concatenate([order, _epoch_order(seed, epoch, images)])
        yield order[:batch_size]
        order = order[batch_size:]


def _epoch_order(seed: int, epoch: int, images: int) -> npt.NDArray[np.int64]:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch]))).permutation(images)
