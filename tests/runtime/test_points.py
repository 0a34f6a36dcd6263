"""Whether a file that names a point holds latents or pictures."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vae_gen.errors import DataError
from vae_gen.latents import draw
from vae_gen.model import Model
from vae_gen.points import Points, read_points, short_name

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
        (np.ones(4, np.float32), GREY),
        (np.float32(3), GREY),
    ],
    ids=["grey for a model of colours", "of another width", "no batch axis", "one number"],
)
def test_what_can_be_no_picture_is_told_what_latents_are(array: np.ndarray, image_shape: tuple[int, int, int]) -> None:
    shape = ", ".join(map(str, np.shape(array)))
    with pytest.raises(DataError, match=rf"points.npy holds .* of shape \[{shape}\]; latents of this model are .* 3\]"):
        read(array, 3, image_shape)


@pytest.mark.skipif(os.name == "nt", reason="no name has a colon there")
def test_a_picture_with_the_name_of_a_seed_is_called_as_it_is_typed() -> None:
    Path("8").mkdir()
    for name in ("7", "7:41", "8/3", "7.png"):
        Image.new("L", (4, 5)).save(name, "png")
    sources = ["./7", "7", "./7:41", "8/3", "./8/3", "7.png", "7:41", "1,2,3"]
    found = read_points(sources, StandIn(3, GREY), io.StringIO())  # type: ignore[arg-type]
    assert found.names == ["./7", "7", "./7:41", "8/3", "8/3", "7.png", "7:41", "1,2,3"]
    assert len(found.pictures) == 5
    shown = ["./7", "7", "./7:41", "\u2026/3", "\u2026/3", "7.png", "7:41", "1,2,3"]
    assert [short_name(name) for name in found.names] == shown


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("4294967295:99999", "4294967295:99999"),
        ("0.5,-1,2", "0.5,-1,2"),
        ("-1.0,1.0,0.1,0.3", "-1.0,1.0,0.1,0.3"),
        ("-1.0,1.0,0.1,0.3,-0.2,0.7,-0.5,-2.5", "-1,1,0.1,0.3,\u2026"),
        ("0.12345678901234,-0.000012345678901", "0.123457,\u2026"),
        ("-0.000012345678901,3,4", "-1.23457e-05,3,\u2026"),
        ("-0.000012345678901,-3,4", "-1.23457e-05,\u2026"),
        ("1, 2, 3, 4, 5, 6, 7, 8, 9", "1,2,3,4,5,6,7,\u2026"),
        ("folder/picture.png", "picture.png"),
        ("a/long-name-of-one-picture.png", "\u2026one-picture.png"),
        ("means.npy[41]", "means.npy[41]"),
    ],
)
def test_captions_cut_no_number_in_two(name: str, short: str) -> None:
    assert short_name(name) == short
    assert len(short) <= 16
