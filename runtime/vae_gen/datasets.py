"""Loading a data set: from a folder of pictures, an array file, or MNIST's IDX files."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from vae_gen.array_files import fit_arrays, load_array_file
from vae_gen.data_options import AS_FOUND, DataOptions, Notify
from vae_gen.errors import DataError
from vae_gen.files import is_there
from vae_gen.idx import parse_idx, read_idx_bytes
from vae_gen.picture_folders import load_folder
from vae_gen.splits import FEWEST, VALIDATION_SHARE, DataSet
from vae_gen.tones import AS_THEY_ARE

__all__ = ["DataOptions", "DataSet", "load_data_set", "load_idx_directory"]

TRAIN_IMAGES = "train-images-idx3-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"


def load_data_set(path: Path, options: DataOptions = AS_FOUND, notify: Notify = lambda message: None) -> DataSet:
    """The images at `path`: a folder of pictures, an .npy, .npz or IDX file, or a directory named as MNIST's files.

    `notify` is told what was chosen where the options leave it open, and what was left out.
    Raises DataError if the images cannot be read or are too few, OutputError if the cache cannot be written.
    """
    try:
        if not is_there(path):
            raise DataError(f"there is no file or folder {path}")
        if path.is_file():
            data = load_array_file(path, options, notify)
        elif not path.is_dir():
            raise DataError(f"{path} is neither a file nor a folder")
        elif _find(path, TRAIN_IMAGES) is not None:
            data = _fit_idx_directory(path, options, notify)
        else:
            data = load_folder(path, options, notify)
    except OSError as error:
        raise DataError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    return dataclasses.replace(data, origin={"path": str(path.absolute()), **options.as_dict()})


def _fit_idx_directory(directory: Path, options: DataOptions, notify: Notify) -> DataSet:
    data = load_idx_directory(directory)
    shape = (options.channels or data.image_shape[0], *(options.image_size or data.image_shape[1:]))
    if shape == data.image_shape and options.tones == AS_THEY_ARE:
        return data
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    files = [found for name in (TRAIN_IMAGES, TEST_IMAGES) if (found := _find(directory, name)) is not None]
    return fit_arrays({name: images for name, images in splits.items() if images is not None}, files, options, notify)


def load_idx_directory(directory: Path) -> DataSet:
    """The data set in a directory of IDX files with MNIST's names, gzipped or not; the test file is optional.

    The first twelfth of the training file is for validation, as TensorFlow's reader split it.
    Raises DataError.
    """
    train_path = _find(directory, TRAIN_IMAGES)
    if train_path is None:
        raise DataError(f"{directory} has no {TRAIN_IMAGES} (or {TRAIN_IMAGES}.gz); give --data a directory that has")
    content = read_idx_bytes(train_path)
    images = parse_idx(content, str(train_path), 3)[:, None]
    if len(images) < FEWEST or 0 in images.shape:
        raise DataError(f"{train_path} holds images of shape {images.shape}; at least {FEWEST} are needed")
    held_out = len(images) // VALIDATION_SHARE

    test_path = _find(directory, TEST_IMAGES)
    test = test_sha256 = None
    if test_path is not None:
        test_content = read_idx_bytes(test_path)
        test_sha256 = hashlib.sha256(test_content).hexdigest()
        test = parse_idx(test_content, str(test_path), 3)[:, None]
        if test.shape[1:] != images.shape[1:]:
            raise DataError(
                f"{test_path} holds images of {test.shape[2]}x{test.shape[3]}, "
                f"{train_path} of {images.shape[2]}x{images.shape[3]}"
            )
    return DataSet(hashlib.sha256(content).hexdigest(), test_sha256, images[held_out:], images[:held_out], test)


def _find(directory: Path, name: str) -> Path | None:
    return next((path for path in (directory / name, directory / f"{name}.gz") if path.is_file()), None)
