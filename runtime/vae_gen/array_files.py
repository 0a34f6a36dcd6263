"""Files that hold many images as arrays -> a data set: .npy, .npz and IDX.

An .npy file of the right kind is mapped and never copied. All other arrays are converted once, into the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_gen.cache import Slot
from vae_gen.data_options import DataOptions
from vae_gen.errors import DataError
from vae_gen.idx import GZIP_MAGIC, read_idx
from vae_gen.images import ByteImages, ImageShape, check_range, to_pillow, to_uint8
from vae_gen.manifest import COLOR_MODES
from vae_gen.pictures import NPY_MAGIC, fit_picture
from vae_gen.splits import TEST_SHARE, VALIDATION_SHARE, DataSet, check_enough, sha256_of_images

ZIP_MAGIC = b"PK"
NAMES = {  # of arrays in an .npz file, without x_ before or _images after
    "train": "train",
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
}
CONVERTED_AT_ONCE = 1 << 24  # bytes

Array = npt.NDArray[Any]
Arrays = dict[str, Array]  # by split
Notify = Callable[[str], None]


def load_array_file(path: Path, options: DataOptions, notify: Notify) -> DataSet:
    """The images in an .npy, .npz or IDX file.

    Arrays are uint8, or floats in [0, 1]: [n, H, W], [n, C, H, W] or [n, H, W, C]. An .npz file holds one, or those
    of the splits under Keras' names x_train and x_test (x_val), or train, test and validation. One array is split
    as it stands: the first twelfth is for validation, the next for testing.
    Raises DataError, and OutputError if the cache cannot be written.
    """
    arrays = {name: _as_images(array, path, options.channels) for name, array in _read(path).items()}
    if len(arrays) == 1:
        (images,) = arrays.values()
        check_enough(len(images), str(path))
        test, train = (len(images) // share for share in (TEST_SHARE, VALIDATION_SHARE))
        arrays = {"validation": images[:train], "test": images[train : train + test], "train": images[train + test :]}
        notify(
            f"{path}: the first {train} images are for validation, the next {test} for testing; "
            "if they are sorted, by class or by name, save them in another order first"
        )
    elif "validation" not in arrays:
        images = arrays["train"]
        check_enough(len(images), str(path))
        held_out = len(images) // VALIDATION_SHARE
        arrays |= {"validation": images[:held_out], "train": images[held_out:]}
    shapes = {images.shape[1:] for images in arrays.values()}
    if len(shapes) > 1:
        raise DataError(f"{path} holds images of several shapes: {', '.join(map(str, sorted(shapes)))}")
    empty = [name for name, images in arrays.items() if not images.size]
    if empty:
        raise DataError(f"{path} holds no images in {', '.join(empty)}")
    return fit_arrays(arrays, [path], options, notify)


def fit_arrays(arrays: Arrays, files: list[Path], options: DataOptions, notify: Notify) -> DataSet:
    """A data set of arrays [n, C, H, W], fitted to the options and kept in the cache if they are not so already.

    Raises DataError for floats outside [0, 1], OutputError if the cache cannot be written.
    """
    size = options.image_size or arrays["train"].shape[2:]
    shape: ImageShape = (options.channels or arrays["train"].shape[1], *size)
    found = arrays["train"].shape[1:]
    if found != shape:
        sizes = [f"{height}x{width}, channels {channels}" for channels, height, width in (found, shape)]
        notify(f"{files[0]}: the images are of {sizes[0]}; they are fitted to {sizes[1]}")
    ready = all(each.shape[1:] == shape and each.dtype == np.uint8 for each in arrays.values()) and not options.invert
    order = [name for name in ("test", "validation", "train") if name in arrays]
    states = [
        [file.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        for file in files
        for status in [file.stat()]
    ]
    slot = Slot.of([str(file.resolve()) for file in files] + [shape, options.invert], states)
    known = slot.read()
    if known is None and not ready:
        chunks = (
            chunk for name in order for chunk in _converted(arrays[name], shape, options.invert, f"{files[0]}, {name}")
        )
        slot.write_images(shape, chunks)
    if not ready:
        images = slot.open_images()
        ends = np.cumsum([len(arrays[name]) for name in order])
        arrays = {name: images[end - len(arrays[name]) : end] for name, end in zip(order, ends, strict=True)}
    if known is None:
        known = {
            "files": [str(file.resolve()) for file in files],
            "sha256": sha256_of_images([arrays["validation"], arrays["train"]]),
            "test_sha256": sha256_of_images([arrays["test"]]) if "test" in arrays else None,
        }
        slot.write(known, in_cache=not ready)
    return DataSet(known["sha256"], known["test_sha256"], arrays["train"], arrays["validation"], arrays.get("test"))


def _read(path: Path) -> Mapping[str, Array]:
    try:
        with path.open("rb") as file:
            magic = file.read(len(NPY_MAGIC))
        if magic.startswith(NPY_MAGIC):
            return {"train": np.asarray(np.load(path, mmap_mode="r"))}
        if magic.startswith(ZIP_MAGIC):
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return {split: archive[name] for split, name in _members(archive.files, path).items()}
    except DataError:
        raise
    except Exception as error:  # what damaged files make of NumPy can be anything
        raise DataError(f"cannot read {path} as an array: {error}") from error
    if magic.startswith((GZIP_MAGIC, b"\0\0")):
        return {"train": read_idx(path)}
    raise DataError(
        f"{path} is no .npy, .npz or IDX file; give --data one of these, or a folder of pictures (not one picture)"
    )


def _members(names: list[str], path: Path) -> dict[str, str]:
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
            f"{path} holds the arrays {', '.join(names) or '(none)'}; save one array alone, "
            "or x_train and, if there are any, x_test and x_val"
        )
    if len(splits) == 1:
        return {"train": splits["train"]}
    return splits


def _as_images(array: Array, path: Path, channels: int | None) -> Array:
    """A view [n, C, H, W] of an array whose axes are in one of the usual orders."""
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{path} holds numbers of type {array.dtype}; use uint8, or floats in [0, 1]")
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4:
        raise DataError(f"{path} holds an array of shape {array.shape}; use [n, H, W], [n, C, H, W] or [n, H, W, C]")
    first, last = array.shape[1] in COLOR_MODES, array.shape[3] in COLOR_MODES
    if first and last and array.shape[1] != array.shape[3]:
        first, last = array.shape[1] == channels, array.shape[3] == channels
    if first == last:
        raise DataError(
            f"{path} holds an array of shape {array.shape}; "
            + (
                "both its second and its last axis may be the channels: give --channels with the one that is meant, or "
                "save the images with other sides"
                if array.shape[1] in COLOR_MODES and array.shape[3] in COLOR_MODES
                else "neither its second nor its last axis is 1, 3 or 4, as channels are"
            )
        )
    return array if first else np.moveaxis(array, 3, 1)


def _converted(images: Array, shape: ImageShape, invert: bool, source: str) -> Iterator[ByteImages]:
    step = max(1, CONVERTED_AT_ONCE // max(math.prod(shape), images[:1].size * images.itemsize))
    for start in range(0, len(images), step):
        chunk = images[start : start + step]
        if chunk.dtype != np.uint8:
            check_range(chunk, f"{source} holds")
            chunk = to_uint8(chunk.astype(np.float64))
        if chunk.shape[1:] != shape:
            chunk = np.stack([fit_picture(to_pillow(np.ascontiguousarray(image)), shape) for image in chunk])
        if invert:
            chunk = chunk.copy()
            chunk[:, :3] = 255 - chunk[:, :3]
        yield chunk
