"""Images as arrays: float32 [batch, channel, height, width] in [0, 1] inside, uint8 in files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vae_gen.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

FloatImages = npt.NDArray[np.float32]
ByteImages = npt.NDArray[np.uint8]
ImageShape = tuple[int, int, int]  # channels, height, width


def to_uint8(images: npt.NDArray[np.floating]) -> ByteImages:
    """Finite values of any shape -> uint8: clip to [0, 1], times 255, round half up."""
    scaled = np.clip(images, 0, 1)
    scaled *= 255
    scaled += 0.5
    return np.asarray(scaled.astype(np.uint8))


def to_float(images: ByteImages) -> FloatImages:
    """uint8 images of any shape -> float32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(255)


def inverted(images: npt.NDArray[Any], white: float) -> npt.NDArray[Any]:
    """Images [..., C, H, W] with black and `white` swapped, but not alpha."""
    swapped = images.copy()
    np.subtract(white, images[..., :3, :, :], out=swapped[..., :3, :, :])
    return swapped


def brightness(values: npt.NDArray[Any], white: float) -> npt.NDArray[np.float64]:
    """Values of any type and shape -> [0, 1], where 0 is black and `white` or more is 1.

    Raises ValueError for values below 0, infinite ones, and what is no number.
    """
    found = np.asarray(values, np.float64) / white
    lowest = found.min(initial=0)  # nan if one is
    if found.max(initial=0) == np.inf:
        raise ValueError("there are infinite values")
    if not lowest >= 0:
        if np.isnan(lowest):
            raise ValueError("there are values that are no numbers (nan)")
        raise ValueError(f"there are values down to {lowest * white:g}, and 0 is black; shift them first")
    return np.clip(found, 0, 1, out=found)


def check_range(
    values: npt.NDArray[np.floating], source: str, way_out: str = "divide them by the value that is white"
) -> None:
    """Raise DataError unless the values are pixels in [0, 1].

    It begins with `source` and a verb, and ends with a way out: `way_out` if only white may be another value than 1.
    """
    low, high = (values.min(), values.max()) if values.size else (0, 1)  # nan if one is
    if low >= 0 and high <= 1:
        return
    found = "values that are no numbers (nan)" if np.isnan(low) else f"values from {low:g} to {high:g}"
    end = f"; {way_out}" if low >= 0 else "; scale them first, as (x + 1) / 2 does from -1 to 1" if low < 0 else ""
    raise DataError(f"{source} {found}; pixels must lie in [0, 1]{end}")


def to_pillow(image: ByteImages) -> Image.Image:
    """One image [C, H, W], C = 1, 3 or 4, as Pillow has it: L, RGB or RGBA."""
    from PIL import Image

    return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(np.moveaxis(image, 0, -1)))


def from_pillow(picture: Image.Image) -> ByteImages:
    """A picture of the mode L, RGB or RGBA as uint8 [C, H, W]."""
    pixels = np.asarray(picture)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
