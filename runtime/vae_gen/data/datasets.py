"""Loading a data set: from pictures in a folder or an archive, an array file, or MNIST's IDX files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vae_gen.data.array_files import load_array_file, load_idx_directory
from vae_gen.data.options import AS_FOUND, DataOptions, Notify
from vae_gen.data.picture_sets import load_picture_set
from vae_gen.data.picture_sources import pictures_in_archive, pictures_in_folder
from vae_gen.data.splits import DataSet
from vae_gen.errors import DataError
from vae_gen.files import is_there

__all__ = ["DataOptions", "DataSet", "load_data_set"]

TRAIN_IMAGES = "train-images-idx3-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"


def load_data_set(path: Path, options: DataOptions = AS_FOUND, notify: Notify = lambda message: None) -> DataSet:
    """The images at `path`: a folder or archive of pictures, an .npy, .npz or IDX file, or a folder of MNIST's files.

    `notify` is told what was chosen where the options leave it open, and what was left out.
    Raises DataError if the images cannot be read or are too few, OutputError if the cache cannot be written.
    """
    try:
        if not is_there(path):
            raise DataError(f"there is no file or folder {path}")
        if path.is_file():
            data = load_array_file(path, options, notify)
            data = data or load_picture_set(pictures_in_archive(path), options, notify)
        elif not path.is_dir():
            raise DataError(f"{path} is neither a file nor a folder")
        elif "train" in (files := _idx_files(path)):
            data = load_idx_directory(files, options, notify)
        else:
            data = load_picture_set(pictures_in_folder(path), options, notify)
    except OSError as error:
        raise DataError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    return dataclasses.replace(data, origin={"path": str(path.absolute()), **options.as_dict()})


def _idx_files(directory: Path) -> dict[str, Path]:
    """Those of MNIST's names, gzipped or not, by split."""
    names = {"train": TRAIN_IMAGES, "test": TEST_IMAGES}
    found = {split: (directory / name, directory / f"{name}.gz") for split, name in names.items()}
    return {split: path for split, paths in found.items() for path in filter(Path.is_file, paths[::-1])}
