"""Files that hold many images as arrays -> a data set: .npy, .npz and IDX.

An .npy file of the right kind is mapped and never copied. All other arrays are converted once, into the cache.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np

from vae_gen.data.cache import Slot
from vae_gen.data.image_arrays import Array, as_images, fit_images, read_arrays
from vae_gen.data.options import DataOptions, Notify
from vae_gen.data.splits import TEST_SHARE, VALIDATION_SHARE, DataSet, check_enough, sha256_of_images
from vae_gen.data.tones import AS_THEY_ARE
from vae_gen.errors import DataError, OutputError
from vae_gen.idx import open_unpacked, read_idx_file
from vae_gen.images import ImageShape

LOOKED_AT = 1000  # images, spread evenly, to see whether all are dark

Arrays = dict[str, Array]  # by split


def load_array_file(path: Path, options: DataOptions, notify: Notify) -> DataSet | None:
    """The images in an .npy, .npz or IDX file; None if it is none of these.

    One array is split as it stands: the first twelfth is for validation, the next for testing. An .npz file may hold
    those of the splits.
    Raises DataError, and OutputError if the cache cannot be written.
    """
    with open_unpacked(path) as file:
        found = read_arrays(file, path)
    if not found:
        return None
    arrays = {name: as_images(array, str(path), options.channels, white=options.white) for name, array in found.items()}
    if len(arrays) == 1:
        (images,) = arrays.values()
        check_enough(len(images), str(path))
        test, train = (len(images) // share for share in (TEST_SHARE, VALIDATION_SHARE))
        arrays = {"validation": images[:train], "test": images[train : train + test], "train": images[train + test :]}
        notify(
            f"{path}: the first {train} images are for validation, the next {test} for testing; "
            "if they are sorted, by class or by name, save them in another order first"
        )
    return fit_arrays(arrays, [path], options, notify)


def load_idx_directory(files: dict[str, Path], options: DataOptions, notify: Notify) -> DataSet:
    """The images in IDX files with MNIST's names, for training and perhaps for testing. Raises as above.

    The first twelfth of the training file is for validation, as TensorFlow's reader split it.
    """
    arrays: Arrays = {split: read_idx_file(path, 3)[:, None] for split, path in files.items()}
    return fit_arrays(arrays, list(files.values()), options, notify)


def fit_arrays(arrays: Arrays, files: list[Path], options: DataOptions, notify: Notify) -> DataSet:
    """A data set of arrays [n, C, H, W], fitted to the options and kept in the cache if they are not so already.

    The first twelfth of `train` is for validation, if nothing is. Raises DataError if there are too few, of several
    shapes, or with values beyond black and white, OutputError if the cache cannot be written.
    """
    if "validation" not in arrays:
        images = arrays["train"]
        check_enough(len(images), str(files[0]))
        held_out = len(images) // VALIDATION_SHARE
        arrays = arrays | {"validation": images[:held_out], "train": images[held_out:]}
    source = " and ".join(map(str, files))
    shapes = {name: images.shape[1:] for name, images in arrays.items()}
    if len(set(shapes.values())) > 1:
        each = ", ".join(f"{name} {shape}" for name, shape in sorted(shapes.items()))
        raise DataError(f"{source}: the images are of several shapes: {each}")
    empty = [name for name, images in arrays.items() if not images.size]
    if empty:
        raise DataError(f"{source}: there are no images in {', '.join(empty)}")
    size = options.image_size or arrays["train"].shape[2:]
    shape: ImageShape = (options.channels or arrays["train"].shape[1], *size)
    found = arrays["train"].shape[1:]
    if found != shape:
        sizes = [f"{height}x{width}, channels {channels}" for channels, height, width in (found, shape)]
        notify(f"{files[0]}: the images are of {sizes[0]}; they are fitted to {sizes[1]}")
    ready = all(each.shape[1:] == shape and each.dtype == np.uint8 for each in arrays.values())
    ready = ready and options.tones == AS_THEY_ARE
    order = [name for name in ("test", "validation", "train") if name in arrays]
    states = [
        [file.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        for file in files
        for status in [file.stat()]
    ]
    splits = {name: len(arrays[name]) for name in order}  # a file alone is split otherwise than a folder that has it
    slot = Slot.of([str(file.resolve()) for file in files] + [shape, [options.invert, options.white], splits], states)
    known = slot.read()
    if known is None and not ready:
        chunks = (
            chunk for name in order for chunk in fit_images(arrays[name], shape, f"{files[0]}, {name}", options.tones)
        )
        slot.write_images(shape, chunks)
    if not ready:
        images = slot.open_images()
        ends = np.cumsum(list(splits.values()))
        arrays = {name: images[end - splits[name] : end] for name, end in zip(order, ends, strict=True)}
    if known is None:
        known = {
            "files": [str(file.resolve()) for file in files],
            "sha256": sha256_of_images(arrays["validation"], arrays["train"]),
            "test_sha256": sha256_of_images(arrays["test"]) if "test" in arrays else None,
        }
        with suppress(OutputError) if ready else nullcontext():  # without its hash at hand it takes a moment longer
            slot.write(known, in_cache=not ready)
    some = arrays["train"][:: -(-len(arrays["train"]) // LOOKED_AT)]
    if hint := options.tones.hint_if_dark(options.tones.brightest(some, 255)):
        notify(hint)
    return DataSet(known["sha256"], known["test_sha256"], arrays["train"], arrays["validation"], arrays.get("test"))
