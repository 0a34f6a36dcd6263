from __future__ import annotations

import numpy as np
import pytest
from vae_gen.images import to_float, to_pillow, to_uint8
from vae_gen.sheets import enlarge, grid, pairs_sheet, viewing_factor


def test_to_uint8_clips_and_rounds_half_up() -> None:
    values = np.array([-1, 0, 0.49 / 255, 0.5 / 255, 1.49 / 255, 1.5 / 255, 254.5 / 255, 1, 7], np.float64)
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 1, 2, 255, 255, 255]


def test_every_byte_survives_the_way_through_float() -> None:
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(to_float(levels)), levels)
    assert to_float(levels).dtype == np.float32
    assert to_float(levels)[255] == 1


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_to_pillow_keeps_every_value_in_its_place(channels: int, mode: str) -> None:
    image = np.arange(channels * 2 * 3, dtype=np.uint8).reshape(channels, 2, 3)
    picture = to_pillow(image)
    assert (picture.mode, picture.size) == (mode, (3, 2))
    pixel = picture.getpixel((2, 1))
    assert (pixel if channels > 1 else (pixel,)) == tuple(image[:, 1, 2])


def test_a_grid_places_images_row_by_row() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 1, 2, 3), np.uint8)
    sheet = grid(images, columns=3, gap=1)
    assert sheet.shape == (1, 1 + 2 * 3, 1 + 3 * 4)
    assert sheet[0, 1:3, 1:4].tolist() == [[0] * 3] * 2
    assert sheet[0, 1:3, 9:12].tolist() == [[2] * 3] * 2
    assert sheet[0, 4:6, 5:8].tolist() == [[4] * 3] * 2
    assert (sheet[0, 4:6, 9:12] == 128).all()
    assert (sheet[0, 3] == 128).all()


def test_a_grid_is_as_square_as_can_be() -> None:
    assert grid(np.zeros((10, 1, 1, 1), np.uint8), gap=0).shape == (1, 3, 4)


def test_a_sheet_has_each_output_below_its_input() -> None:
    inputs = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)
    sheet = pairs_sheet(inputs, inputs + 10, columns=2)
    pixels = sheet[0, 2::3, 2::3]
    assert pixels.tolist() == [[0, 1], [10, 11], [2, 128], [12, 128]]
    assert pairs_sheet(inputs, inputs, columns=10).shape == grid(np.zeros((6, 1, 1, 1), np.uint8), 3).shape


def test_enlarging_repeats_pixels() -> None:
    image = np.array([[[1, 2]]], np.uint8)
    assert enlarge(image, 2).tolist() == [[[1, 1, 2, 2], [1, 1, 2, 2]]]
    assert [viewing_factor(28, 28), viewing_factor(300, 500), viewing_factor(64, 32)] == [8, 1, 7]
    assert [viewing_factor(1, 500), viewing_factor(3, 5000)] == [8, 1]
