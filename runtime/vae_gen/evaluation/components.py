"""The leading principal components of images: the space in which sets of pictures are compared; numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vae_gen.images import ByteImages

MAX_COMPONENTS = 64
COVARIANCE_VALUES = 2048  # images of more values than this have too large a covariance matrix
COVARIANCE_IMAGES, GRAM_IMAGES = 10_000, 1024
VALUES_AT_A_TIME = 2**22  # 32 MiB of doubles
# Components with less than this share of the first one's variance are rounding errors.
NEGLIGIBLE = 1e-10

Points = npt.NDArray[np.float64]  # [n, components]


@dataclass(frozen=True)
class Components:
    """An orthonormal basis [values of an image, components] about a mean [values of an image], pixels in [0, 1].

    `fitted_on` is how many images they were found from.
    """

    mean: npt.NDArray[np.float64]
    basis: npt.NDArray[np.float64]
    fitted_on: int

    @property
    def count(self) -> int:
        return int(self.basis.shape[1])

    def project(self, images: ByteImages) -> Points:
        """Images uint8 [n, C, H, W] -> their coordinates [n, components]. Distances only shrink."""
        rows = images.reshape(len(images), -1)
        return np.asarray(rows.astype(np.float64) @ self.basis / 255 - self.mean @ self.basis)


def fit_components(images: ByteImages) -> Components:
    """The directions of largest variance of uint8 images [n, C, H, W]: at most 64, none where there is no variance.

    They are found from at most 10,000 of the images, evenly spaced, or from 1,024 where an image has more than
    2,048 values; by the eigenvectors of the covariance matrix, or of the Gram matrix where that is smaller.
    """
    values = int(np.prod(images.shape[1:]))
    most = COVARIANCE_IMAGES if values <= COVARIANCE_VALUES else GRAM_IMAGES
    chosen = images[evenly_spaced(len(images), most)]
    rows = chosen.reshape(len(chosen), -1)
    mean = rows.mean(axis=0, dtype=np.float64) / 255
    eigenvectors = _by_covariance(rows, mean) if values <= len(rows) else _by_gram_matrix(rows, mean)
    return Components(mean, eigenvectors, len(rows))


def evenly_spaced(count: int, most: int) -> npt.NDArray[np.intp]:
    """Which of `count` images stand for all, if `most` may: in order, from the first on, at equal distances."""
    chosen = min(count, most)
    return np.arange(chosen, dtype=np.intp) * count // max(chosen, 1)


def images_at_a_time(values: int) -> int:
    """How many images of so many values are held as doubles at a time; as many whatever else is asked for."""
    return max(64, VALUES_AT_A_TIME // values)


def _by_covariance(rows: npt.NDArray[np.uint8], mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    scatter = np.zeros((rows.shape[1], rows.shape[1]))
    step = images_at_a_time(rows.shape[1])
    for first in range(0, len(rows), step):
        centred = rows[first : first + step] / 255 - mean
        scatter += centred.T @ centred
    _, eigenvectors = _leading(scatter)
    return eigenvectors


def _by_gram_matrix(rows: npt.NDArray[np.uint8], mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """X X' u = s^2 u, so that X' u / s is an eigenvector of X' X; X is centred, and read by blocks of its columns."""
    gram = np.zeros((len(rows), len(rows)))
    step = max(1, VALUES_AT_A_TIME // len(rows))
    blocks = [slice(first, first + step) for first in range(0, rows.shape[1], step)]
    for block in blocks:
        centred = rows[:, block] / 255 - mean[block]
        gram += centred @ centred.T
    variances, eigenvectors = _leading(gram)
    scaled = eigenvectors / np.sqrt(variances)
    return np.concatenate([(rows[:, block] / 255 - mean[block]).T @ scaled for block in blocks])


def _leading(matrix: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The largest eigenvalues of a symmetric matrix, largest first, and their eigenvectors as columns."""
    eigenvalues, eigenvectors = np.linalg.eigh(matrix)
    largest = eigenvalues[::-1][:MAX_COMPONENTS]
    kept = int(np.count_nonzero(largest > NEGLIGIBLE * largest[0]))  # of images all alike, all are exactly 0
    return largest[:kept], np.ascontiguousarray(eigenvectors[:, ::-1][:, :kept])
