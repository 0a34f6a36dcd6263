"""Images as arrays: float32 [batch, channel, height, width] in [0, 1] inside, uint8 in files."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatImages = npt.NDArray[np.float32]
ByteImages = npt.NDArray[np.uint8]


def to_uint8(images: npt.NDArray[np.floating]) -> ByteImages:
    """Images in [0, 1] of any shape -> uint8: clip, times 255, round half up. NaN becomes 0."""
    scaled = np.clip(np.nan_to_num(images, nan=0.0), 0, 1) * 255 + 0.5
    return scaled.astype(np.uint8)


def to_float(images: ByteImages) -> FloatImages:
    """uint8 images of any shape -> float32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(255)


def grid(images: ByteImages, columns: int | None = None, gap: int = 2) -> ByteImages:
    """Images [n, C, H, W] side by side, row by row -> one image [C, rows, width] on a middle grey.

    Without `columns` the grid is as square as can be.
    """
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), 128, np.uint8)
    for index, image in enumerate(images):
        top = gap + index // columns * (height + gap)
        left = gap + index % columns * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet
