"""Images as people look at them: enlarged, and side by side on one sheet."""

from __future__ import annotations

import math

import numpy as np

from vae_gen.images import ByteImages

MIDDLE_GREY = 128
LONGEST = 4096  # pixels to which an image is enlarged


def grid(images: ByteImages, columns: int | None = None, gap: int = 2) -> ByteImages:
    """Images [n, C, H, W] side by side, row by row -> one image [C, rows, width] on a middle grey.

    Without `columns` the grid is as square as can be.
    """
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), MIDDLE_GREY, np.uint8)
    for index, image in enumerate(images):
        top = gap + index // columns * (height + gap)
        left = gap + index % columns * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet


def pairs_sheet(inputs: ByteImages, outputs: ByteImages, columns: int) -> ByteImages:
    """A grid of inputs, each with its output below it: [n, C, H, W] twice -> one image [C, rows, width]."""
    columns = min(columns, len(inputs))
    gap_below = -len(inputs) % columns  # unfilled places in the last row
    filler = np.full((gap_below, *inputs.shape[1:]), MIDDLE_GREY, np.uint8)
    rows = (np.concatenate([images, filler]).reshape(-1, columns, *inputs.shape[1:]) for images in (inputs, outputs))
    return grid(np.stack(list(rows), axis=1).reshape(-1, *inputs.shape[1:]), columns)


def enlarge(images: ByteImages, factor: int) -> ByteImages:
    """Every pixel of images [..., H, W] as a square of `factor` by `factor`."""
    return images.repeat(factor, axis=-2).repeat(factor, axis=-1)


def viewing_factor(height: int, width: int, pixels: int = 224) -> int:
    """How much to enlarge a small image, in whole numbers, so that its shorter side has about `pixels`.

    Of one that is thin, less: its longer side has at most LONGEST.
    """
    return max(1, min(pixels // min(height, width), LONGEST // max(height, width)))
