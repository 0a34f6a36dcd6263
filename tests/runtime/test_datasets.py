"""How a data set is split, and the size and channels that are chosen for it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vae_gen.data.datasets import load_data_set
from vae_gen.data.options import DataOptions
from vae_gen.data.picture_sets import default_size
from vae_gen.errors import UsageError

from tests.runtime.data_files import everything, fill, idx, in_order, pixels, sizes

pytestmark = pytest.mark.usefixtures("cache")


def test_every_twelfth_is_for_validation_and_for_testing(folder: Path) -> None:
    pictures = fill(folder, 25)
    said: list[str] = []
    data = load_data_set(folder, notify=said.append)
    assert said[-1] == "25 pictures as 6x8, grey: 21 to train with, 2 for validation, 2 for testing"
    expected = np.stack([pictures[name] for name in in_order(list(pictures))])[:, None]
    assert data.test is not None
    np.testing.assert_array_equal(data.test, expected[:2])
    np.testing.assert_array_equal(data.validation, expected[2:4])
    np.testing.assert_array_equal(data.train, expected[4:])
    assert data.describe() == {
        "sha256": hashlib.sha256(idx(expected[2:, 0])).hexdigest(),
        "test_sha256": hashlib.sha256(idx(expected[:2, 0])).hexdigest(),
        "train_images": 21,
        "validation_images": 2,
        "test_images": 2,
    }


def test_folders_of_classes_are_read_and_split_evenly(folder: Path) -> None:
    for level, name in ((10, "a"), (200, "b")):
        (folder / name / "deeper").mkdir(parents=True)
        for number in range(120):
            Image.new("L", (4, 4), level).save(folder / name / "deeper" / f"{number}.png")
    data = load_data_set(folder)
    assert data.test is not None
    for split in (data.validation, data.test):
        assert len(split) == 20
        assert 4 <= (split[:, 0, 0, 0] == 10).sum() <= 16


def test_train_and_test_folders_are_the_splits(folder: Path) -> None:
    parts = {name: fill(folder / name, count) for name, count in (("train", 24), ("Test", 5))}
    fill(folder / "extra", 3)
    said: list[str] = []
    data = load_data_set(folder, notify=said.append)
    assert (len(data.train), len(data.validation)) == (22, 2)
    assert data.test is not None
    expected = np.stack([parts["Test"][name[5:]] for name in in_order([f"Test/{name}" for name in parts["Test"]])])
    np.testing.assert_array_equal(data.test[:, 0], expected)
    assert said[-1] == f"{folder} also holds files that are not used: 3 outside Test, train"

    held_out = fill(folder / "val", 7)
    data = load_data_set(folder)
    assert sizes(data) == (24, 7, 5)
    assert {image.tobytes() for image in data.validation} == {picture.tobytes() for picture in held_out.values()}
    for path in [*(folder / "Test").iterdir()]:
        path.unlink()
    assert load_data_set(folder).test is None


def test_a_lone_folder_called_train_is_a_folder_like_others(folder: Path) -> None:
    fill(folder / "train", 24)
    fill(folder / "more", 12)
    data = load_data_set(folder)
    assert sizes(data) == (30, 3, 3)


@pytest.mark.parametrize(
    ("sizes", "expected", "why"),
    [
        ([(28, 20)] * 5, (28, 20), ""),
        ([(28, 20)] * 3 + [(40, 50)] * 2, (28, 20), "3 of 5 pictures have one size"),
        ([(3000, 4000)] * 5, (64, 64), "the pictures are large (3000x4000)"),
        ([(3000, 4000), (4000, 3000), (90, 100)], (64, 64), "the pictures differ in size (3 sizes)"),
        ([(30, 31), (21, 40), (25, 22)], (16, 16), "the pictures differ in size (3 sizes)"),
        ([(10, 11), (12, 40)], (12, 12), "the pictures differ in size (2 sizes)"),
        ([(3, 5), (4, 3)], (3, 3), "the pictures differ in size (2 sizes)"),
    ],
)
def test_the_image_size_follows_the_pictures(sizes: list[tuple[int, int]], expected: tuple[int, int], why: str) -> None:
    assert default_size(sizes) == (expected, why)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_the_size_is_that_of_the_upright_picture(folder: Path, suffix: str) -> None:
    for number in range(12):
        exif = Image.Exif()
        exif[0x0112] = 5 + number % 4  # all four that swap height and width
        Image.new("L", (12, 20)).save(folder / f"{number}.{suffix}", exif=exif)
    assert load_data_set(folder).image_shape == (1, 12, 20)


def test_what_was_chosen_is_said(folder: Path) -> None:
    fill(folder, 12, 60, 40)
    Image.new("L", (70, 90)).save(folder / "other.png")
    said: list[str] = []
    assert load_data_set(folder, notify=said.append).image_shape == (1, 60, 40)
    assert "12 of 13 pictures have one size: 60x40 was chosen; --image-size asks for another" in said
    assert load_data_set(folder, DataOptions(image_size=(8, 12))).image_shape == (1, 8, 12)


def test_one_colour_picture_makes_all_colour_and_grey_ones_saved_as_colour_do_not(folder: Path) -> None:
    for number, picture in enumerate(fill(folder).values()):
        Image.fromarray(picture).convert("RGB").save(folder / f"rgb-{number}.png")
    grey = load_data_set(folder)
    assert grey.image_shape == (1, 6, 8)
    # Asking for what was chosen gives the same pixels.
    assert load_data_set(folder, DataOptions((6, 8), channels=1)).describe() == grey.describe()
    Image.new("RGB", (8, 6), "red").save(folder / "red.png")
    assert load_data_set(folder).image_shape == (3, 6, 8)
    assert load_data_set(folder, DataOptions(channels=1)).image_shape == (1, 6, 8)


def test_invert_swaps_black_and_white_but_not_alpha(folder: Path) -> None:
    fill(folder)
    plain, inverted = (load_data_set(folder, DataOptions(channels=4, invert=invert)) for invert in (False, True))
    np.testing.assert_array_equal(everything(inverted)[:, :3], 255 - everything(plain)[:, :3])
    np.testing.assert_array_equal(everything(inverted)[:, 3], everything(plain)[:, 3])
    assert inverted.sha256 != plain.sha256


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": (0, 8)}, "image-size is 0x8; both sides must be from 1 to 4096"),
        ({"image_size": (8, 5000)}, "image-size is 8x5000"),
        ({"channels": 2}, r"channels is 2; it must be 1 \(grey\), 3"),
    ],
)
def test_options_that_cannot_be_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DataOptions(**values)


def test_the_origin_says_how_to_load_the_data_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder)
    monkeypatch.chdir(folder.parent)
    options = DataOptions((6, 4), 3, invert=True)
    data = load_data_set(Path("pictures"), options)
    values = json.loads(json.dumps(data.origin))
    assert values.pop("path") == str(folder)
    assert DataOptions.from_dict(values) == options
    assert str(folder) not in json.dumps(data.describe())


def test_the_same_pixels_are_the_same_data_in_whatever_file(tmp_path: Path) -> None:
    train, test = pixels(36, 6, 8), pixels(14, 6, 8, seed=1)
    (tmp_path / "digits").mkdir()
    for name, images in (("train", train), ("t10k", test)):
        (tmp_path / "digits" / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
    np.savez(tmp_path / "digits.npz", x_train=train, x_test=test)
    files, arrays = (load_data_set(tmp_path / name) for name in ("digits", "digits.npz"))
    assert files.describe() == arrays.describe()
    assert files.differences(arrays.describe()) == []

    np.savez(tmp_path / "changed.npz", x_train=train, x_test=test ^ 1)
    np.savez(tmp_path / "fewer.npz", x_train=train)
    (found,) = load_data_set(tmp_path / "changed.npz").differences(files.describe())
    assert re.fullmatch(r"other pixels in the test images \(SHA-256 [0-9a-f]{12}, not [0-9a-f]{12}\)", found)
    assert load_data_set(tmp_path / "fewer.npz").differences(files.describe())[2:] == [
        "30 train images, not 33",
        "3 test images, not 14",
    ]
