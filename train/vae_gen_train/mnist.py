"""MNIST, fetched on first use into the user's cache and checked against the SHA-256 of its content.

LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pooch
from requests import RequestException
from vae_gen.data import cache
from vae_gen.data.datasets import TEST_IMAGES, TRAIN_IMAGES
from vae_gen.data.options import Notify
from vae_gen.errors import DataError
from vae_gen.files import make_folder, whole_file
from vae_gen.idx import open_unpacked

MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
TIMEOUT = 30  # seconds without a byte
# Of the uncompressed content: mirrors compress differently.
SHA256 = {
    TRAIN_IMAGES: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    TEST_IMAGES: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
}


def cache_folder() -> Path:
    """Where MNIST is kept: $VAE_GEN_CACHE/mnist, or `vae-gen/mnist` in the user's cache folder."""
    return cache.cache_folder("mnist")


def fetch_mnist(
    folder: Path | None = None, mirrors: Sequence[str] = MIRRORS, notify: Notify = lambda message: None
) -> Path:
    """The folder with MNIST's images, by default `cache_folder()`; what is not there yet is downloaded.

    The mirrors are tried in turn, and `notify` is told of each try. A file that is not whole or not right is
    never left in the folder.
    Raises DataError, with every mirror's failure, if none of them gives a file with the right content.
    """
    folder = folder or cache_folder()
    make_folder(folder)
    for name, expected in SHA256.items():
        path = folder / f"{name}.gz"
        if path.is_file() and _is_right(path, expected):
            continue
        failures: list[str] = []
        for mirror in mirrors:
            notify(f"downloading {mirror}{path.name} to {folder}")
            try:
                _download(mirror + path.name, path, expected)
                break
            except DataError as error:
                failures.append(str(error))
        else:
            raise DataError(
                "\n  ".join([f"MNIST's {path.name} could not be downloaded:", *failures])
                + f"\nPut the file into {folder}, or give --data a directory that has it"
            )
    return folder


def _download(url: str, path: Path, expected: str) -> None:
    """Download `url` to `path`. Raises DataError, and leaves nothing, if that fails or the content is not right."""
    with whole_file(path) as partial:
        try:
            pooch.HTTPDownloader(timeout=TIMEOUT)(url, str(partial), None)
        except RequestException as error:
            raise DataError(f"{url}: {error}") from error
        if not _is_right(partial, expected):
            raise DataError(f"{url}: the content is not MNIST's, whose SHA-256 is {expected}")


def _is_right(path: Path, expected: str) -> bool:
    try:
        with open_unpacked(path) as file:
            return hashlib.sha256(file.read()).hexdigest() == expected
    except (DataError, OSError):  # it is cut or damaged, or cannot be read
        return False
