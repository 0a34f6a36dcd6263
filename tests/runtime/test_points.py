"""Whether a file that names a point holds latents or pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pytest
from vae_gen.errors import DataError
from vae_gen.latents import draw
from vae_gen.model import Model
from vae_gen.points import Points, read_points

pytestmark = pytest.mark.usefixtures("elsewhere")

GREY, COLOUR = (1, 5, 4), (3, 5, 4)
RANDOM = np.random.default_rng(0)


@dataclass
class StandIn:
    """A model of so many latents, which are the first values of an image."""

    latent_dim: int
    image_shape: tuple[int, int, int]
    check_latents = Model.check_latents
    name = "stand-in"

    def encode(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = images.reshape(len(images), -1)[:, : self.latent_dim]
        return mean, mean


def read(array: np.ndarray, latent_dim: int, image_shape: tuple[int, int, int]) -> Points:
    np.save("points.npy", array)
    return read_points(["points.npy"], StandIn(latent_dim, image_shape), io.StringIO())  # type: ignore[arg-type]


@pytest.mark.parametrize("latent_dim", [3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
def test_one_grey_picture_of_the_models_size_is_a_picture(latent_dim: int, kind: type) -> None:
    """Of 5 by 4 pixels, whether latents could be [n, 4] or not."""
    pixels = RANDOM.integers(0, 256, (5, 4), np.uint8)
    pixels[0, :2] = 0, 255
    found = read(pixels if kind is np.uint8 else (pixels / 255).astype(kind), latent_dim, GREY)
    np.testing.assert_allclose(found.pictures, pixels[None, None] / np.float32(255), atol=1e-7)
    np.testing.assert_array_equal(found.latents, found.pictures[:, 0, 0, :latent_dim])


@pytest.mark.parametrize("image_shape", [GREY, COLOUR])
@pytest.mark.parametrize("count", [1, 5, 6])
def test_latents_as_many_as_rows_of_a_picture_are_latents(image_shape: tuple[int, int, int], count: int) -> None:
    z = draw(0, 0, count, 4)
    found = read(z, 4, image_shape)
    np.testing.assert_array_equal(found.latents, z)
    assert not len(found.pictures)
    assert not found.files


@pytest.mark.parametrize(
    ("array", "image_shape"),
    [
        (np.ones((5, 4), np.uint8), COLOUR),
        (np.ones((5, 6), np.float32), GREY),
        (np.ones(3, np.float32), GREY),
        (np.float32(3), GREY),
    ],
    ids=["grey for a model of colours", "of another width", "no batch axis", "one number"],
)
def test_what_can_be_no_picture_is_told_what_latents_are(array: np.ndarray, image_shape: tuple[int, int, int]) -> None:
    shape = ", ".join(map(str, np.shape(array)))
    with pytest.raises(DataError, match=rf"points.npy holds .* of shape \[{shape}\]; latents of this model are .* 3\]"):
        read(array, 3, image_shape)
