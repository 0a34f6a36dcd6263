"""Which values are black and white: 12 bits in files of 16, 32 bits, floats, and one transparent value."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from vae_gen.cli import main
from vae_gen.data.datasets import load_data_set
from vae_gen.data.options import DataOptions
from vae_gen.data.pictures import load_pictures
from vae_gen.data.tones import Tones
from vae_gen.errors import DataError, UsageError

from tests.runtime.commands import run

GREY = (1, 5, 4)
TWELVE_BITS = np.linspace(0, 4095, 20).reshape(5, 4).astype(np.uint16)
STEP = 0.5 / 255 + 1e-6  # of a byte's rounding


def loaded(path: Path, tones: Tones = Tones()) -> np.ndarray:  # noqa: B008, it is immutable
    return load_pictures([path], GREY, tones).images[0, 0]


@pytest.mark.parametrize(
    ("pixels", "suffix"),
    [(TWELVE_BITS, "png"), (TWELVE_BITS, "tif"), (TWELVE_BITS.astype(np.int32), "tif"), (TWELVE_BITS / 1, "tif")],
    ids=["16 bits", "16 bits, TIFF", "32 bits", "floats"],
)
def test_the_value_that_is_white_can_be_said_of_pictures(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(pixels if pixels.dtype.kind != "f" else pixels.astype(np.float32)).save(path)
    np.testing.assert_allclose(loaded(path, Tones(white=4095)), TWELVE_BITS / 4095, atol=STEP)
    np.testing.assert_allclose(loaded(path, Tones(True, 4095)), 1 - TWELVE_BITS / 4095, atol=STEP)
    np.testing.assert_allclose(loaded(path, Tones(white=1000)), np.minimum(TWELVE_BITS / 1000, 1), atol=STEP)


@pytest.mark.parametrize("kind", [np.uint16, np.int64, np.float32])
def test_the_value_that_is_white_can_be_said_of_arrays(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "a.npy"
    np.save(path, TWELVE_BITS.astype(kind)[None])
    np.testing.assert_allclose(loaded(path, Tones(white=4095)), TWELVE_BITS / 4095, atol=1e-6)
    with pytest.raises(DataError, match="say with --white which value is white"):
        loaded(path)


def test_pictures_of_8_bits_keep_their_white_and_bytes_in_arrays_do_not(tmp_path: Path) -> None:
    pixels = np.arange(20, dtype=np.uint8).reshape(5, 4)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", pixels)
    np.testing.assert_allclose(loaded(tmp_path / "a.png", Tones(white=19)), pixels / 255, atol=1e-6)
    np.testing.assert_allclose(loaded(tmp_path / "a.npy", Tones(white=19)), pixels / 19, atol=1e-6)


@pytest.mark.parametrize(("low", "high"), [(-5, 100), (0, 65536)])
def test_values_that_16_bits_do_not_have_are_refused(tmp_path: Path, low: int, high: int) -> None:
    path = tmp_path / "deep.tif"
    Image.fromarray(np.linspace(low, high, 20).reshape(5, 4).astype(np.int32)).save(path)
    with pytest.raises(DataError, match=f"deep.tif .*go from {low} to {high}, and --white must say"):
        loaded(path)
    if low == 0:
        assert loaded(path, Tones(white=high))[0, 0] == 0
        assert loaded(path, Tones(white=high))[-1, -1] == 1


@pytest.mark.parametrize("white", [0, -1, float("nan"), float("inf")])
def test_an_impossible_white_is_refused(white: float) -> None:
    with pytest.raises(UsageError, match=f"white is {white:g}; it must be a number above 0"):
        Tones(white=white)
    with pytest.raises(UsageError, match=f"white is {white:g}"):
        DataOptions(white=white)


def test_values_below_black_are_refused_whatever_white_is(tmp_path: Path) -> None:
    pixels = np.linspace(-100, 1000, 20).reshape(5, 4)
    Image.fromarray(pixels.astype(np.int32)).save(tmp_path / "a.tif")
    np.save(tmp_path / "a.npy", pixels.astype(np.int16)[None])
    for path in (tmp_path / "a.tif", tmp_path / "a.npy"):
        with pytest.raises(DataError, match="there are values down to -100, and 0 is black; shift them first"):
            loaded(path, Tones(white=1000))


@pytest.mark.parametrize("kind", [bool, complex])
def test_arrays_of_which_no_white_makes_images_are_not_told_to_say_one(tmp_path: Path, kind: type) -> None:
    np.save(tmp_path / "a.npy", np.ones((1, 5, 4), kind))
    for tones in (Tones(), Tones(white=1)):
        with pytest.raises(DataError, match=r"holds numbers of type .*; use uint8, or floats in \[0, 1\]$"):
            loaded(tmp_path / "a.npy", tones)


@pytest.mark.parametrize(
    ("white", "words"), [(4095, "4095"), (0.1, "0.1"), (1 / 3, "0.3333333333333333"), (1e20, "1e+20")]
)
def test_white_is_told_as_it_can_be_given_again(white: float, words: str) -> None:
    assert Tones(white=float(white)).as_options == ["--white", words]
    assert float(words) == white


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((5, 4), np.nan, np.float32)).save(tmp_path / "a.tif")
    np.save(tmp_path / "a.npy", np.full((1, 5, 4), np.nan))
    for path in (tmp_path / "a.tif", tmp_path / "a.npy"):
        with pytest.raises(DataError, match=r"values that are no numbers \(nan\)"):
            loaded(path, Tones(white=1))


def test_the_transparent_value_of_16_bits_becomes_white(tmp_path: Path) -> None:
    pixels = np.full((5, 4), 20_000, np.uint16)
    pixels[0] = 300
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    # Pillow writes this chunk for modes of 8 bits only.
    content = path.read_bytes()
    place = content.index(b"IDAT") - 4
    with path.open("wb") as file:
        file.write(content[:place])
        PngImagePlugin.putchunk(file, b"tRNS", (300).to_bytes(2, "big"))
        file.write(content[place:])
    expected = np.where(pixels == 300, 1, 20_000 / 65535)
    np.testing.assert_allclose(loaded(path), expected, atol=STEP)
    alpha = load_pictures([path], (4, 5, 4)).images[0, 3]
    np.testing.assert_array_equal(alpha, pixels != 300)


def microscope(folder: Path) -> Path:
    """A folder of 12-bit pictures in 16-bit files."""
    folder.mkdir()
    for number in range(40):
        Image.fromarray(np.roll(TWELVE_BITS, number)).save(folder / f"{number}.tif")
    return folder


def test_a_folder_of_dark_pictures_is_told_and_white_mends_it(tmp_path: Path) -> None:
    folder = microscope(tmp_path / "cells")
    told: list[str] = []
    dark = load_data_set(folder, notify=told.append)
    assert dark.train.max() == 16  # of 255
    assert [message for message in told if "no picture is brighter than 6.3% of white" in message]
    told.clear()
    load_data_set(folder, DataOptions(invert=True), told.append)
    assert [message for message in told if "--white" in message]
    for options in (DataOptions(white=4095), DataOptions(white=4095, invert=True)):
        told.clear()
        bright = load_data_set(folder, options, told.append)
        assert not [message for message in told if "--white" in message]
        found = np.sort(bright.train[0].ravel() / 255)
        np.testing.assert_allclose(found, TWELVE_BITS.ravel() / 4095, atol=0.01)


def test_an_array_is_dark_only_if_all_of_it_is(tmp_path: Path) -> None:
    images = np.full((3000, 2, 2), 9, np.uint8)
    told: list[str] = []
    for name, last in (("dark", 9), ("sorted", 250)):
        images[2500:] = last
        np.save(tmp_path / f"{name}.npy", images)
        load_data_set(tmp_path / f"{name}.npy", notify=lambda message, name=name: told.append(f"{name}: {message}"))
    assert [message.partition(":")[0] for message in told if "no picture is brighter" in message] == ["dark"]


def test_an_array_of_dark_images_is_told_and_white_mends_it(tmp_path: Path) -> None:
    digits = np.random.default_rng(0).integers(0, 17, (60, 8, 8), np.uint8)  # as scikit-learn's
    np.save(tmp_path / "digits.npy", digits)
    told: list[str] = []
    load_data_set(tmp_path / "digits.npy", notify=told.append)
    assert [message for message in told if "no picture is brighter than 6.3% of white" in message]
    told.clear()
    data = load_data_set(tmp_path / "digits.npy", DataOptions(white=16), told.append)
    assert not [message for message in told if "--white" in message]
    np.testing.assert_array_equal(data.train[:, 0], np.floor(digits[10:] / 16 * 255 + 0.5))


@pytest.mark.usefixtures("elsewhere")
def test_commands_take_white(capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.full((28, 28), 4095, np.uint16)).save("deep.png")
    Image.fromarray(np.full((28, 28), 255, np.uint8)).save("white.png")

    def latents(*words: str) -> list[float]:
        run("encode", *words, "--json", "--quiet")
        found: list[float] = json.loads(capsys.readouterr().out)[0]["mean"]
        return found

    assert latents("deep.png", "--white", "4095") == latents("white.png")
    assert latents("deep.png") != latents("white.png")
    run("encode", "deep.png", "--json")
    assert "no picture is brighter than 6.3% of white" in capsys.readouterr().err
    run("encode", "deep.png", "--white", "65535", "--json")
    told = capsys.readouterr().err
    assert "no picture is brighter than 6.3% of white: --white 65535 is too large, or has no effect" in told
    Image.new("L", (28, 28)).save("black.png")
    run("encode", "black.png", "--json")
    assert "--white" not in capsys.readouterr().err  # it would stay black
    assert main(["traverse", "--white", "4095", "--dim", "1"]) != 0
    assert "--white is for --picture, which is not given" in capsys.readouterr().err
