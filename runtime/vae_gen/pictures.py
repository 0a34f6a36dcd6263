"""People's files -> images that fit a model: anything Pillow reads, .npy arrays, IDX files, folders."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vae_gen.errors import DataError
from vae_gen.idx import parse_idx, unpack
from vae_gen.images import FloatImages, ImageShape, check_range, to_float
from vae_gen.manifest import COLOR_MODES
from vae_gen.metrics import sum_of_squared_errors

if TYPE_CHECKING:
    from vae_gen.model import Model

IDX_MAGIC = b"\0\0\x08"
NPY_MAGIC = b"\x93NUMPY"
RECOGNISED_ONLY = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF"}  # Pillow has no decoder for them
GREY_MODES = {"1", "L", "LA", "La", "I", "F"}
TRIED = 16  # images, with black and white swapped
QUARTER_TURNS = (5, 6, 7, 8)  # values of EXIF's orientation that swap height and width


@dataclass(frozen=True)
class Pictures:
    """Images and, for each, the file it came from (with its number, where a file holds several)."""

    names: list[str]
    images: FloatImages  # [n, C, H, W] in [0, 1]


def load_pictures(paths: Iterable[Path], image_shape: ImageShape, invert: bool = False) -> Pictures:
    """All pictures in these files and folders, in that order, as images of the given shape.

    A picture of another size is scaled and cropped about its centre; transparent parts become white unless
    the images have an alpha channel. Arrays must have the shape already. `invert` swaps black and white.
    Raises DataError, naming the file, if one cannot be read or nothing is found.
    """
    names: list[str] = []
    parts: list[FloatImages] = []
    for path in _files(paths):
        images = _load_file(path, image_shape)
        name = os.fsencode(path).decode("utf-8", "replace")  # a file's name may be no text
        names += [name] if len(images) == 1 else [f"{name}[{number}]" for number in range(len(images))]
        parts.append(images)
    images = np.concatenate(parts)
    return Pictures(names, inverted(images) if invert else images)


def inverted(images: FloatImages) -> FloatImages:
    """Images [n, C, H, W] in [0, 1] with black and white swapped, but not alpha."""
    swapped = images.copy()
    swapped[:, :3] = 1 - images[:, :3]
    return swapped


def fit_better_inverted(images: FloatImages, network: Model) -> bool:
    """Whether the model's reconstructions of the first of these images are far better with black and white swapped.

    Digits the wrong way round have a hundred times the error; halved is enough, and noise or plain grey does not
    come near it.
    """
    some = images[:TRIED]
    return _reconstruction_error(inverted(some), network) < _reconstruction_error(some, network) / 2


def _reconstruction_error(images: FloatImages, network: Model) -> float:
    mean, _ = network.encode(images)
    return float(sum_of_squared_errors(network.decode(mean), images).mean())


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        try:
            if not path.exists():
                raise DataError(f"there is no file or folder {path}")
            entries = sorted(path.iterdir()) if path.is_dir() else None
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        if entries is None:
            yield path
            continue
        suffixes = {*picture_suffixes(), ".npy"}
        found = [entry for entry in entries if entry.suffix.lower() in suffixes and not entry.name.startswith(".")]
        if not found:
            raise DataError(f"the folder {path} holds no pictures")
        yield from found


def picture_suffixes() -> set[str]:
    """The suffixes, in lower case and with their dots, of the files that Pillow can decode."""
    kinds = Image.registered_extensions().items()
    return {suffix for suffix, kind in kinds if kind in Image.OPEN and kind not in RECOGNISED_ONLY}


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


def _load_file(path: Path, image_shape: ImageShape) -> FloatImages:
    try:
        content = unpack(path.read_bytes())
        if not content:
            raise DataError(f"{path} is empty")
        if content.startswith(NPY_MAGIC):
            array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
            return _fit_array(array, image_shape, path)
        if content.startswith(IDX_MAGIC):
            return _fit_array(parse_idx(content, str(path), dimensions=3), image_shape, path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, but not yet refused
            with Image.open(io.BytesIO(content)) as picture:
                return to_float(fit_picture(picture, image_shape))[None]
    except DataError:
        raise
    except UnidentifiedImageError as error:  # which names the buffer, not the file
        raise DataError(
            f"cannot read {path}: no picture that Pillow knows, no .npy array and no IDX file begins as it does"
        ) from error
    except Exception as error:  # what a decoder raises on damaged input can be anything
        raise DataError(f"cannot read {path} as a picture, an .npy array or an IDX file: {error}") from error


def fit_picture(picture: Image.Image, image_shape: ImageShape) -> npt.NDArray[np.uint8]:
    """A Pillow picture of any mode and size -> uint8 [C, H, W]. Raises ValueError for floating-point pixels."""
    channels, height, width = image_shape
    # A large JPEG is decoded at a half, a quarter or an eighth of its size, at least twice what is needed.
    picture.draft(None, (2 * max(height, width), 2 * max(height, width)))
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16 bits in one of several guises
        values = np.clip(np.asarray(picture, np.int64), 0, 65535)
        picture = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range nobody knows; save it with integers")
    if picture.has_transparency_data and channels != 4:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert(COLOR_MODES[channels])
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture)
    return pixels[None] if channels == 1 else np.moveaxis(pixels, -1, 0)


def _fit_array(array: npt.NDArray[np.generic], image_shape: ImageShape, path: Path) -> FloatImages:
    """uint8, or floats in [0, 1]; [n, C, H, W], one image [C, H, W], or the same without C if it is 1."""
    channels, height, width = image_shape
    shapes = [image_shape] + ([(height, width)] if channels == 1 else [])
    if not any(array.shape in (shape, (len(array), *shape)) for shape in shapes if array.ndim):
        expected = " or ".join(f"[n, {', '.join(map(str, shape))}]" for shape in shapes)
        raise DataError(f"{path} holds an array of shape {array.shape}; the model needs {expected}")
    images = array.reshape(-1, *image_shape)
    if not len(images):
        raise DataError(f"{path} holds no images")
    if images.dtype == np.uint8:
        return to_float(images.astype(np.uint8, copy=False))
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(f"{path} holds numbers of type {images.dtype}; use uint8, or floats in [0, 1]")
    floats = images.astype(np.float32)
    check_range(floats, f"{path} holds")
    return floats
