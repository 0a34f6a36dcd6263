"""What tests of somebody else's decoders share: tests/models/foreign, and the images that they make."""

from __future__ import annotations

import numpy as np

from tests.conftest import MODELS
from tests.runtime import reference

FOREIGN = MODELS / "foreign"
SEEN = (3, 2, 10)


def expected(z: np.ndarray, image_shape: tuple[int, ...] = SEEN) -> np.ndarray:
    """What most of them make of z, in [0, 1]."""
    return reference.decode(z).reshape(-1, *image_shape)
