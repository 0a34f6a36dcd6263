"""Data sets: images as uint8, split into those to train on, those held out, and those to test with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from vae_gen.errors import DataError
from vae_gen.idx import parse_idx, read_idx_bytes
from vae_gen.images import ByteImages, ImageShape

TRAIN_IMAGES = "train-images-idx3-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
VALIDATION_SHARE = 12  # one image in 12: of MNIST's 60,000, 5,000 for validation and 55,000 for training


@dataclass(frozen=True)
class DataSet:
    """Images [n, channels, height, width], split for training, and what identifies them."""

    sha256: str  # of the training file's uncompressed content
    test_sha256: str | None  # of the test file's
    train: ByteImages
    validation: ByteImages
    test: ByteImages | None

    @property
    def image_shape(self) -> ImageShape:
        channels, height, width = self.train.shape[1:]
        return channels, height, width

    def describe(self) -> dict[str, str | int | None]:
        """What a checkpoint and a manifest say of the data."""
        return {
            "sha256": self.sha256,
            "test_sha256": self.test_sha256,
            "train_images": len(self.train),
            "validation_images": len(self.validation),
            "test_images": 0 if self.test is None else len(self.test),
        }


def load_idx_directory(directory: Path) -> DataSet:
    """The data set in a directory of IDX files with MNIST's names, gzipped or not; the test file is optional.

    The first twelfth of the training file is for validation, as TensorFlow's reader split it.
    Raises DataError.
    """
    train_path = _find(directory, TRAIN_IMAGES)
    if train_path is None:
        raise DataError(f"{directory} has no {TRAIN_IMAGES} (or {TRAIN_IMAGES}.gz); give --data a directory that has")
    content = read_idx_bytes(train_path)
    images = parse_idx(content, str(train_path), dimensions=3)[:, None]
    if len(images) < VALIDATION_SHARE or 0 in images.shape:
        raise DataError(f"{train_path} holds images of shape {images.shape}; at least {VALIDATION_SHARE} are needed")
    held_out = len(images) // VALIDATION_SHARE

    test_path = _find(directory, TEST_IMAGES)
    test = test_sha256 = None
    if test_path is not None:
        test_content = read_idx_bytes(test_path)
        test_sha256 = hashlib.sha256(test_content).hexdigest()
        test = parse_idx(test_content, str(test_path), dimensions=3)[:, None]
        if test.shape[1:] != images.shape[1:]:
            raise DataError(
                f"{test_path} holds images of {test.shape[2]}x{test.shape[3]}, "
                f"{train_path} of {images.shape[2]}x{images.shape[3]}"
            )
    return DataSet(hashlib.sha256(content).hexdigest(), test_sha256, images[held_out:], images[:held_out], test)


def _find(directory: Path, name: str) -> Path | None:
    return next((path for path in (directory / name, directory / f"{name}.gz") if path.is_file()), None)
