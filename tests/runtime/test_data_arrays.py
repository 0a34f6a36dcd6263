"""Data sets in arrays: npy, npz and IDX files."""

from __future__ import annotations

import gzip
import hashlib
import mmap
from pathlib import Path

import numpy as np
import pytest
from vae_gen.data.datasets import load_data_set
from vae_gen.data.options import DataOptions
from vae_gen.data.splits import sha256_of_images
from vae_gen.errors import DataError

from tests.runtime.data_files import idx, pixels, sizes

pytestmark = pytest.mark.usefixtures("cache")


def mapped(array: np.ndarray) -> bool:
    """Whether an array is a view of a mapped file."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap)


def test_an_array_of_bytes_is_mapped_and_split_as_it_stands(tmp_path: Path, cache: Path) -> None:
    images = pixels(25, 3, 6, 8)
    np.save(tmp_path / "a.npy", images)
    said: list[str] = []
    data = load_data_set(tmp_path / "a.npy", notify=said.append)
    assert "the first 2 images are for validation, the next 2 for testing" in said[0]
    assert data.test is not None
    for split, expected in ((data.validation, images[:2]), (data.test, images[2:4]), (data.train, images[4:])):
        assert mapped(split)
        np.testing.assert_array_equal(split, expected)
    assert data.sha256 == hashlib.sha256(idx(np.concatenate([images[:2], images[4:]]))).hexdigest()
    assert data.test_sha256 == hashlib.sha256(idx(images[2:4])).hexdigest()
    assert [path.suffix for path in cache.iterdir()] == [".json"]  # the hash, but no copy
    assert load_data_set(tmp_path / "a.npy").describe() == data.describe()
    before = data.sha256
    del data, split  # Windows writes to no file that is mapped
    np.save(tmp_path / "a.npy", images[::-1])
    assert load_data_set(tmp_path / "a.npy").sha256 != before


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_may_come_first_or_last_or_be_none(tmp_path: Path, channels: int) -> None:
    images = pixels(24, channels, 6, 8)
    for name, array in (("first", images), ("last", np.moveaxis(images, 1, 3)), ("none", images[:, 0])):
        np.save(tmp_path / f"{name}.npy", array)
    first, last = (load_data_set(tmp_path / f"{name}.npy") for name in ("first", "last"))
    np.testing.assert_array_equal(last.train, images[4:])
    assert first.describe() == last.describe()
    assert load_data_set(tmp_path / "none.npy").image_shape == (1, 6, 8)


def test_channels_do_not_tell_axes_apart_that_are_as_long(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", pixels(24, 3, 6, 3))
    for options in (DataOptions(), DataOptions(channels=3)):
        with pytest.raises(DataError, match=r"the channels: save \[n, [C3], H, W\], or save the images with other"):
            load_data_set(tmp_path / "a.npy", options)


def test_infinite_values_are_refused(tmp_path: Path) -> None:
    images = pixels(24, 6, 8) / 255.0
    images[3, 2, 1] = np.inf
    np.save(tmp_path / "a.npy", images)
    with pytest.raises(DataError, match="there are infinite values"):
        load_data_set(tmp_path / "a.npy", DataOptions(white=1))


def test_axes_that_may_both_be_the_channels_need_a_word(tmp_path: Path) -> None:
    images = pixels(24, 3, 6, 4)
    np.save(tmp_path / "a.npy", images)
    with pytest.raises(DataError, match=r"shape \(24, 3, 6, 4\); two of its axes may be the channels: give --channels"):
        load_data_set(tmp_path / "a.npy")
    np.testing.assert_array_equal(load_data_set(tmp_path / "a.npy", DataOptions(channels=3)).train, images[4:])
    assert load_data_set(tmp_path / "a.npy", DataOptions(channels=4)).image_shape == (4, 3, 6)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_become_the_nearest_bytes(tmp_path: Path, kind: type) -> None:
    images = pixels(24, 6, 8)
    np.save(tmp_path / "a.npy", (images / 255).astype(kind))
    for _ in range(2):  # the second time from the cache
        np.testing.assert_array_equal(load_data_set(tmp_path / "a.npy").train[:, 0], images[4:])
    inverted = load_data_set(tmp_path / "a.npy", DataOptions(invert=True))
    np.testing.assert_array_equal(inverted.train[:, 0], 255 - images[4:])
    assert load_data_set(tmp_path / "a.npy", DataOptions(image_size=(3, 4))).image_shape == (1, 3, 4)


@pytest.mark.parametrize("names", [("x_train", "x_test"), ("train", "test"), ("train_images", "test_images")])
def test_an_npz_file_may_hold_the_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    train, test = pixels(24, 6, 8), pixels(5, 6, 8, seed=1)
    arrays = {names[0]: train, names[1]: test, "y_train": np.arange(24), "y_test": np.arange(5)}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    data = load_data_set(tmp_path / "a.npz")
    assert data.test is not None
    np.testing.assert_array_equal(data.validation[:, 0], train[:2])
    np.testing.assert_array_equal(data.train[:, 0], train[2:])
    np.testing.assert_array_equal(data.test[:, 0], test)
    np.savez(tmp_path / "b.npz", x_train=train, x_val=test)
    data = load_data_set(tmp_path / "b.npz")
    assert sizes(data) == (24, 5, 0)
    np.savez(tmp_path / "c.npz", train)
    assert sizes(load_data_set(tmp_path / "c.npz")) == (20, 2, 2)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_one_idx_file_is_a_data_set(tmp_path: Path, pack: object) -> None:
    images = pixels(24, 6, 8)
    (tmp_path / "images-idx3-ubyte").write_bytes(pack(idx(images)))  # type: ignore[operator]
    np.testing.assert_array_equal(load_data_set(tmp_path / "images-idx3-ubyte").train[:, 0], images[4:])


def test_a_directory_named_as_mnist_takes_the_options_too(folder: Path) -> None:
    images, test = pixels(24, 6, 8), pixels(5, 6, 8, seed=1)
    (folder / "train-images-idx3-ubyte").write_bytes(idx(images))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(test)))
    data = load_data_set(folder)
    assert data.sha256 == hashlib.sha256(idx(images)).hexdigest()
    np.testing.assert_array_equal(data.train[:, 0], images[2:])
    inverted = load_data_set(folder, DataOptions(invert=True, channels=3))
    np.testing.assert_array_equal(inverted.train, np.repeat(255 - images[2:, None], 3, 1))
    assert inverted.test is not None
    np.testing.assert_array_equal(inverted.test, np.repeat(255 - test[:, None], 3, 1))
    assert load_data_set(folder, DataOptions(image_size=(12, 12))).image_shape == (1, 12, 12)


@pytest.mark.parametrize("first", ["folder", "file"])
def test_a_file_and_the_folder_that_has_it_are_kept_apart(folder: Path, first: str) -> None:
    images = pixels(24, 6, 8)
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(idx(images))
    inverted = 255 - images[:, None]
    for place in (folder, path) if first == "folder" else (path, folder):
        data = load_data_set(place, DataOptions(invert=True))
        if place == folder:
            assert (sizes(data), data.test_sha256) == ((22, 2, 0), None)
            np.testing.assert_array_equal(data.validation, inverted[:2])
        else:
            assert sizes(data) == (20, 2, 2)
            np.testing.assert_array_equal(data.validation, inverted[:2])
            assert data.test_sha256 == sha256_of_images(inverted[2:4])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pixels(11, 6, 8), "holds 11 images; at least 12"),
        (pixels(24, 48), r"shape \(24, 48\); use \[n, H, W\]"),
        (pixels(24, 2, 6, 8), "neither its second nor its last axis is 1, 3 or 4"),
        (pixels(24, 6, 8).astype(np.int64), "numbers of type int64; use uint8, or floats"),
        (np.full((24, 6, 8), 16.0), r"values from 16 to 16; pixels must lie in \[0, 1\]; say with --white"),
        (np.full((24, 6, 8), np.nan), "holds values that are no numbers"),
        (np.array([{}]), "cannot read"),
        (pixels(24, 0, 8), "there are no images in"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=message) as raised:
        load_data_set(tmp_path / "a.npy")
    assert str(tmp_path / "a.npy") in str(raised.value)


def test_other_archives_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", first=pixels(24, 6, 8), second=pixels(24, 6, 8))
    with pytest.raises(DataError, match="holds the arrays first, second; save one array alone, or x_train"):
        load_data_set(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x_train=pixels(24, 6, 8), x_test=pixels(24, 8, 6))
    with pytest.raises(DataError, match="the images are of several shapes"):
        load_data_set(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", x_train=pixels(24, 6, 8), train=pixels(24, 6, 8))
    with pytest.raises(DataError, match="holds both x_train and train"):
        load_data_set(tmp_path / "c.npz")
    (tmp_path / "d.npz").write_bytes((tmp_path / "c.npz").read_bytes()[:700])
    with pytest.raises(DataError, match=r"cannot read .*d\.npz"):
        load_data_set(tmp_path / "d.npz")
