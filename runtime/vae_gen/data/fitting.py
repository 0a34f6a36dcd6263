"""A picture of any kind and size -> the shape of a data set's or a model's images."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image, ImageOps

from vae_gen.images import ByteImages, ImageShape, brightness, from_pillow, to_uint8
from vae_gen.manifest import COLOR_MODES

GREY_MODES = {"1", "L", "LA", "La", "I", "F"}
WHITE_OF_16_BITS = 65535
QUARTER_TURNS = (5, 6, 7, 8)  # values of EXIF's orientation that swap height and width


def fit_picture(picture: Image.Image, image_shape: ImageShape, white: float | None = None) -> ByteImages:
    """A Pillow picture of any mode and size -> uint8 [C, H, W].

    `white` is that of Tones. Raises ValueError for pixels of which nobody knows which value is white.
    """
    channels, height, width = image_shape
    # A large JPEG is decoded at a half, a quarter or an eighth of its size, at least twice what is needed.
    picture.draft(None, (2 * max(height, width), 2 * max(height, width)))
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _in_8_bits(picture, white)
    if picture.has_transparency_data and channels != 4:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    if picture.mode == "LAB":  # which Pillow does not convert to grey
        picture = picture.convert("RGB")
    picture = picture.convert(COLOR_MODES[channels])
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    return from_pillow(picture)


def _in_8_bits(picture: Image.Image, white: float | None) -> Image.Image:
    """A grey picture of 16 bits, 32 or floats -> L, or LA where one of its values is transparent."""
    values = np.asarray(picture)
    if white is None:
        low, high, white = values.min(), values.max(), WHITE_OF_16_BITS
        if picture.mode == "F" or low < 0 or high > white:
            raise ValueError(f"its values go from {low:g} to {high:g}, and --white must say which of them is white")
    grey = Image.fromarray(to_uint8(brightness(values, white)))
    if isinstance(transparent := picture.info.get("transparency"), int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def shown_size(picture: Image.Image) -> tuple[int, int]:
    """Height and width as the picture is to be shown, without decoding it."""
    width, height = picture.size
    # PNG's own getexif would decode all pixels to find an orientation that was written after them.
    orientation = Image.Image.getexif(picture).get(ExifTags.Base.Orientation, 1)
    # A TIFF is turned by Pillow itself, and has its size as shown from the beginning.
    turned = picture.format != "TIFF" and orientation in QUARTER_TURNS
    return (width, height) if turned else (height, width)


def is_grey(picture: Image.Image) -> bool:
    """Whether the picture's mode has no colour; a palette or RGB may still hold nothing but greys."""
    return picture.mode in GREY_MODES or picture.mode.startswith("I;")
