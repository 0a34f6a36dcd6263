"""Arrays of images: .npy, .npz and IDX files, and the orders that their axes may have."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from vae_gen.data.fitting import fit_picture
from vae_gen.data.tones import AS_THEY_ARE, Tones
from vae_gen.errors import DataError
from vae_gen.idx import read_idx
from vae_gen.images import ByteImages, ImageShape, brightness, check_range, inverted, to_pillow, to_uint8
from vae_gen.manifest import COLOR_MODES

NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK"
IDX_MAGIC = (b"\0\0\x08", b"\0\0\x0c", b"\0\0\x0d", b"\0\0\x0e")  # with 9 and 11, Targa's pictures begin
NAMES = {  # of arrays in an .npz file, without x_ before or _images after
    "train": "train",
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
}
FITTED_AT_ONCE = 1 << 24  # bytes

Array = npt.NDArray[Any]


def read_arrays(file: BinaryIO, path: Path) -> dict[str, Array]:
    """The arrays in an .npy, .npz or IDX file, by split; none if it is a file of another kind.

    `file` is what `open_unpacked` makes of `path`. One array alone is `train`. An .npz file holds one, or those of the
    splits under Keras' names x_train and x_test (x_val), or train, test and validation. An .npy file on a disk is
    mapped. Raises DataError.
    """
    magic = file.read(len(NPY_MAGIC))
    file.seek(0)
    try:
        if magic.startswith(NPY_MAGIC):
            on_disk = isinstance(file, io.BufferedReader)
            return {"train": np.asarray(np.load(path, mmap_mode="r")) if on_disk else np.lib.format.read_array(file)}
        if magic.startswith(IDX_MAGIC):
            return {"train": read_idx(file, str(path), 3, 4)}
        return _read_npz(file, path) if magic.startswith(ZIP_MAGIC) else {}
    except DataError:
        raise
    except Exception as error:  # what damaged files make of NumPy can be anything
        kind = "a zip archive" if magic.startswith(ZIP_MAGIC) else "an array"
        raise DataError(f"cannot read {path} as {kind}: {error}") from error


def _read_npz(file: BinaryIO, path: Path) -> dict[str, Array]:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    if not names or not all(name.endswith(".npy") for name in names):  # a zip archive of other files
        return {}
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        return {split: arrays[name] for split, name in _members(arrays.files, path).items()}


def _members(names: Sequence[str], path: Path) -> dict[str, str]:
    """For each split, the name of its array in an .npz file."""
    if len(names) == 1:
        return {"train": names[0]}
    splits: dict[str, str] = {}
    for name in names:
        split = NAMES.get(name.lower().removeprefix("x_").removesuffix("_images"))
        if split in splits:
            raise DataError(f"{path} holds both {splits[split]} and {name}; save it with one of them")
        if split is not None:
            splits[split] = name
    if "train" not in splits:
        raise DataError(
            f"{path} holds the arrays {', '.join(names)}; save one array alone, "
            "or x_train and, if there are any, x_test and x_val"
        )
    if len(splits) == 1:
        return {"train": splits["train"]}
    return splits


def as_images(
    array: Array,
    source: str,
    channels: int | None = None,
    model: ImageShape | None = None,
    white: float | None = None,
) -> Array:
    """A view [n, C, H, W] of uint8 or floats, whose axes are in one of the usual orders.

    It may be of any numbers if `white` is given, the value that is white. The orders are [n, H, W], [n, C, H, W] and
    [n, H, W, C] and, where the images are for a `model` of that shape, one image alone: [C, H, W] and [H, W, C], and
    [H, W] of the model's size. Where several are possible, images of the model's shape are meant, or else, of the two
    with four axes, the one with so many `channels`.
    Raises DataError, which names `source`, for an array of another kind, or one that can still be read in two ways.
    """
    if array.dtype != np.uint8 and array.dtype.kind not in ("f" if white is None else "uif"):
        way_out = ", or say with --white which value is white" if white is None and array.dtype.kind in "ui" else ""
        raise DataError(f"{source} holds numbers of type {array.dtype}; use uint8, or floats in [0, 1]{way_out}")
    views = _views(array, model)
    exact = [view for view in views if view.shape[1:] == model]
    likely = exact[:1] or [view for view in views if view.shape[1] == channels and array.ndim == 4] or views
    if len(likely) == 1:
        return likely[0]
    if likely:
        told_apart = model is None and len({view.shape[1] for view in likely}) > 1
        way_out = "give --channels with the one that is meant" if told_apart else f"save [n, {channels or 'C'}, H, W]"
        problem = f"two of its axes may be the channels: {way_out}, or save the images with other sides"
    elif array.ndim == 4:
        problem = "neither its second nor its last axis is 1, 3 or 4, as channels are"
    else:
        problem = "use [n, H, W], [n, C, H, W] or [n, H, W, C]"
    raise DataError(f"{source} holds an array of shape {array.shape}; {problem}")


def _views(array: Array, model: ImageShape | None) -> list[Array]:
    """All that the array may be, as [n, C, H, W]."""
    if array.ndim == 4:
        return [view for view in (array, np.moveaxis(array, 3, 1)) if view.shape[1] in COLOR_MODES]
    grey = [array[:, None]] if array.ndim == 3 else []
    if model is None or not (array.ndim == 3 or (1, *array.shape) == model):
        return grey
    alone = _views(array[None] if array.ndim == 3 else array[None, None], model)
    return grey + [view for view in alone if not grey or view.shape != grey[0].shape]  # which are the same


def in_unit_range(images: Array, source: str, white: float | None) -> npt.NDArray[np.floating]:
    """Images as `as_images` gives them, in [0, 1], where `white`, or by default 1, is white.

    Raises DataError, which names `source`, for values that are no numbers and, by default, for those beyond.
    """
    if white is None:
        check_range(images, f"{source} holds", "say with --white which value is white")
        return images
    try:
        return brightness(images, white)
    except ValueError as error:
        raise DataError(f"{source} cannot be read: {error}") from error


def fit_images(images: Array, shape: ImageShape, source: str, tones: Tones = AS_THEY_ARE) -> Iterator[ByteImages]:
    """Images [n, C, H, W], as `as_images` gives them, as bytes of that shape, fitted as pictures are; in chunks.

    Raises DataError as `in_unit_range` does.
    """
    step = max(1, FITTED_AT_ONCE // max(math.prod(shape), images[:1].size * images.itemsize))
    for start in range(0, len(images), step):
        chunk = images[start : start + step]
        if chunk.dtype != np.uint8 or tones.white is not None:
            chunk = to_uint8(in_unit_range(chunk, source, tones.white).astype(np.float64, copy=False))
        if chunk.shape[1:] != shape:
            chunk = np.stack([fit_picture(to_pillow(np.ascontiguousarray(image)), shape) for image in chunk])
        yield inverted(chunk, 255) if tones.invert else chunk
