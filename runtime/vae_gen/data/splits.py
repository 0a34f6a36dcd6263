"""A data set: images as uint8, split into those to train on, those held out, and those to test with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vae_gen.errors import DataError
from vae_gen.idx import idx_header
from vae_gen.images import ByteImages, ImageShape

VALIDATION_SHARE = 12  # one image in 12: of MNIST's 60,000, 5,000 for validation and 55,000 for training
TEST_SHARE = 12  # where the data come without a test set of their own
HASHED_AT_ONCE = 1 << 24  # bytes
FEWEST = 12  # images that can be split so that no part is empty
HASHED = {"sha256": "training and validation images", "test_sha256": "test images"}


@dataclass(frozen=True)
class DataSet:
    """Images [n, channels, height, width], split for training, and what identifies them.

    The arrays may be views of a file that is larger than the memory; an index or a slice reads what it names.
    """

    sha256: str  # of the IDX file that holds validation, then train: see sha256_of_images
    test_sha256: str | None  # of the test images', likewise
    train: ByteImages
    validation: ByteImages
    test: ByteImages | None
    origin: Mapping[str, Any] | None = None  # the path and the options that load it again; for this machine only

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

    def differences(self, described: Mapping[str, Any]) -> list[str]:
        """In words, where these data are not those that were described so."""
        found = []
        for name, value in self.describe().items():
            before = described.get(name)
            if value != before and name in HASHED:
                hashes = f"SHA-256 {str(value)[:12]}, not {str(before)[:12]}"
                found.append(f"other pixels in the {HASHED[name]} ({hashes})")
            elif value != before:
                found.append(f"{value} {name.replace('_', ' ')}, not {before}")
        return found


def check_enough(count: int, source: str) -> None:
    """Raise DataError if so few images cannot be split."""
    if count < FEWEST:
        raise DataError(f"{source} holds {count} images; at least {FEWEST} are needed, to train with and to test with")


def sha256_of_images(*parts: ByteImages) -> str:
    """The hash of the IDX file that would hold images [n, C, H, W], part after part: of MNIST's, that of its own."""
    digest = hashlib.sha256(idx_header(sum(map(len, parts)), parts[0].shape[1:]))
    for images in parts:
        step = max(1, HASHED_AT_ONCE // max(1, images[:1].size))
        for start in range(0, len(images), step):
            digest.update(np.ascontiguousarray(images[start : start + step]).data)
    return digest.hexdigest()
