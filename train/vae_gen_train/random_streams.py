"""A seed's random streams: all that torch draws in a run is a function of (seed, stream, place in the stream).

But for the first weights of the VAE, which are drawn from the seed itself. The order of the images is numpy's: see
batches.py.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What draws, and by which place: a key's trailing zeros do not count, so (place, 0) is (place)."""

    STEPS = 0  # (step, from 1): the noise of a whole batch; dropout too, where the network draws both itself
    EVALUATIONS = 1  # (part of a split, from 0): the same in every evaluation, so that they compare
    PRIOR = 2  # (0): its first weights; (its step, from 1); (the step after its last, process): projections
    DROPOUT = 3  # (step, part of the batch), where the batch's noise is drawn before


def seed_torch(seed: int, stream: Stream, *place: int) -> None:
    """Make torch's generators a function of the seed, the stream and the place in it, numbers from 0 on."""
    state = int(np.random.SeedSequence([seed, stream, *place]).generate_state(1, np.uint64)[0])
    # Where there is no GPU, manual_seed notes from where it was called: half a millisecond, at every step.
    (torch.manual_seed if torch.accelerator.is_available() else torch.default_generator.manual_seed)(state)
