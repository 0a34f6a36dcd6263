"""Folders of pictures: every kind of file comes out as it looks, or is named as one that cannot be read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vae_gen.data.datasets import load_data_set
from vae_gen.data.fitting import fit_picture
from vae_gen.data.options import DataOptions
from vae_gen.errors import DataError

from tests.runtime.data_files import by_name, fill
from tests.systems import needs_links

pytestmark = pytest.mark.usefixtures("cache")


BLACK, RED, WHITE = (0, 0, 0), (255, 0, 0), (255, 255, 255)


def quarters(top_left: object, top_right: object, bottom_left: object, bottom_right: object) -> np.ndarray:
    """32x48 pixels in four colours, so that every turn and mirror image differs."""
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:16, :16], picture[:16, 16:], picture[16:, :16], picture[16:, 16:] = (
        top_left, top_right, bottom_left, bottom_right,
    )  # fmt: skip
    return picture


def test_a_mixture_of_real_files_comes_out_as_it_looks(folder: Path) -> None:
    red, green, blue, grey = (250, 5, 5), (5, 250, 5), (5, 5, 250), (120, 120, 120)
    upright = quarters(red, green, blue, grey)
    expected: dict[str, np.ndarray] = {}

    palette = Image.new("P", (48, 32), 0)
    palette.putpalette([9, 9, 9, 200, 100, 50])
    palette.paste(1, (30, 4, 40, 8))
    palette.save(folder / "palette.png", transparency=0)
    expected["palette.png"] = np.full((32, 48, 3), 255, np.uint8)
    expected["palette.png"][4:8, 30:40] = (200, 100, 50)

    deep = np.linspace(0, 65535, 32 * 48).reshape(32, 48)
    Image.fromarray(deep.astype(np.uint16)).save(folder / "deep.png")
    expected["deep.png"] = np.repeat(np.round(deep.astype(np.uint16) / 257)[..., None], 3, -1).astype(np.uint8)

    # Orientation 6: the camera was turned, and the file has to be turned clockwise by 90 degrees to be upright.
    # Orientation 7: mirrored along the anti-diagonal.
    for name, orientation, stored in (
        ("turned.jpg", 6, np.rot90(upright, 1)),
        ("mirrored.jpg", 7, np.rot90(upright, 2).transpose(1, 0, 2)),
    ):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(np.ascontiguousarray(stored)).save(folder / name, exif=exif, quality=100, subsampling=0)
        expected[name] = upright

    shade = np.zeros((32, 48, 2), np.uint8)
    shade[..., 0], shade[:16, :, 1] = 100, 51  # a fifth of 100 on four fifths of white; below it nothing
    Image.merge("LA", [Image.fromarray(shade[..., channel]) for channel in range(2)]).save(folder / "shade.png")
    expected["shade.png"] = np.full((32, 48, 3), 255, np.uint8)
    expected["shade.png"][:16] = round(0.2 * 100 + 0.8 * 255)

    inks = np.zeros((32, 48, 4), np.uint8)
    inks[:, :24, 0], inks[:, 24:, 2] = 255, 255  # cyan, yellow
    cmyk = Image.merge("CMYK", [Image.fromarray(inks[..., channel]) for channel in range(4)])
    cmyk.save(folder / "inks.jpg", quality=100, subsampling=0)
    expected["inks.jpg"] = np.zeros((32, 48, 3), np.uint8)
    expected["inks.jpg"][:, :24], expected["inks.jpg"][:, 24:] = (0, 255, 255), (255, 255, 0)

    bits = np.indices((32, 48)).sum(0) % 3 == 0
    Image.fromarray(bits).save(folder / "bits.png")
    expected["bits.png"] = np.repeat(bits[..., None] * np.uint8(255), 3, -1)

    frames = [Image.new("RGB", (48, 32), color) for color in (RED, BLACK)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    expected["moving.gif"] = np.broadcast_to(np.array(RED, np.uint8), (32, 48, 3))

    for suffix in ("bmp", "tiff", "webp", "ppm"):
        Image.fromarray(upright).save(folder / f"upright.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
        expected[f"upright.{suffix}"] = upright
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(np.ascontiguousarray(np.rot90(upright, -1))).save(folder / "turned.tif", exif=exif)
    expected["turned.tif"] = upright

    data = load_data_set(folder)
    assert data.image_shape == (3, 32, 48)  # all have that size, once they are upright
    found = by_name(data, list(expected))
    for name, pixels in expected.items():
        error = np.abs(found[name].transpose(1, 2, 0).astype(int) - pixels)
        lossy = name.endswith(".jpg")
        assert error.max() <= (6 if lossy else 1), name
        assert error.mean() <= (2 if lossy else 0.5), name


def test_lab_becomes_grey_too() -> None:
    """L 128, a and b 0 (stored as 128): the sRGB grey of lightness 128 / 255 * 100."""
    picture = Image.merge("LAB", [Image.new("L", (8, 6), 128)] * 3)
    grey, colour = (fit_picture(picture, (channels, 6, 8)) for channels in (1, 3))
    assert np.abs(grey.astype(int) - 119.5).max() <= 2
    assert np.abs(colour.astype(int) - grey).max() <= 3


def test_alpha_is_kept_when_four_channels_are_asked_for(folder: Path) -> None:
    names = list(fill(folder))
    rgba = np.random.default_rng(0).integers(0, 256, (6, 8, 4), np.uint8)
    Image.fromarray(rgba).save(folder / "a.png")
    found = by_name(load_data_set(folder, DataOptions(channels=4)), [*names, "a.png"])
    np.testing.assert_array_equal(found["a.png"], rgba.transpose(2, 0, 1))
    assert (found["00.png"][3] == 255).all()
    white = by_name(load_data_set(folder), [*names, "a.png"])["a.png"]
    alpha = rgba[..., 3:] / 255
    np.testing.assert_allclose(white.transpose(1, 2, 0), rgba[..., :3] * alpha + 255 * (1 - alpha), atol=1)


def test_a_large_jpeg_is_scaled_and_cropped_about_its_centre(folder: Path) -> None:
    picture = np.zeros((600, 1000, 3), np.uint8)
    picture[:, :200] = picture[:, 800:] = RED  # what is left of and right of the middle square
    picture[:, 200:500], picture[:300, 500:800], picture[300:, 500:800] = (0, 0, 255), (0, 255, 0), WHITE
    for number in range(12):
        Image.fromarray(picture).save(folder / f"{number}.jpg", quality=95)
    data = load_data_set(folder, DataOptions(image_size=(20, 20)))
    image = data.train[0].astype(int)
    for row, column, color in ((5, 4, (0, 0, 255)), (15, 4, (0, 0, 255)), (4, 15, (0, 255, 0)), (15, 15, WHITE)):
        assert np.abs(image[:, row, column] - color).max() < 12
    assert (image[0] - image[1]).max() < 60  # no red at the sides


def spoil(folder: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, "JPEG")
    (folder / "cut.jpg").write_bytes(buffer.getvalue()[:1500])
    (folder / "text.png").write_text("hello")
    (folder / "empty.webp").touch()
    (folder / "nowhere.png").symlink_to(folder / "gone")


@needs_links
def test_broken_pictures_are_named_and_fail_the_run(folder: Path, cache: Path) -> None:
    fill(folder)
    spoil(folder)
    with pytest.raises(DataError) as raised:
        load_data_set(folder)
    lines = str(raised.value).splitlines()
    assert lines[0] == f"found 4 files in {folder} that cannot be read:"
    assert lines[1].startswith("  cut.jpg: ")
    assert lines[2:] == [
        "  empty.webp: it is empty",
        "  nowhere.png: No such file or directory",
        "  text.png: not in a picture format that Pillow can read",
        "Repair or remove them, or leave them out with --skip-bad",
    ]
    assert not list(cache.iterdir())


@needs_links
def test_broken_pictures_are_left_out_when_asked(folder: Path) -> None:
    fill(folder)
    whole = load_data_set(folder)
    spoil(folder)
    for _ in range(2):  # the second time from the cache
        said: list[str] = []
        data = load_data_set(folder, DataOptions(skip_bad=True), said.append)
        assert f"left out 4 files in {folder} that cannot be read:" in said[-1]
        assert "text.png" in said[-1]
        assert data.describe() == whole.describe()
    with pytest.raises(DataError, match="4 files"):
        load_data_set(folder)


def test_of_many_broken_pictures_ten_are_named(folder: Path) -> None:
    for number in range(25):
        (folder / f"{number:02}.png").write_text("no")
    with pytest.raises(DataError, match=r"25 files in (.|\n)*09\.png: .*\n  and 15 more\n") as raised:
        load_data_set(folder)
    assert "10.png" not in str(raised.value)
    with pytest.raises(DataError, match="holds no picture that can be read: 25 files"):
        load_data_set(folder, DataOptions(skip_bad=True))


@needs_links
def test_other_files_are_ignored_but_counted(folder: Path) -> None:
    names = list(fill(folder))
    for name in ("notes.txt", "more.txt", "labels.JSON", "Thumbs.db", "README", "empty"):
        (folder / name).write_text("" if name == "empty" else "words")
    for name in (".DS_Store", "._00.png", ".hidden.png"):
        (folder / name).write_text("words")
    Image.new("L", (8, 6), 77).save(folder / "nameless", "PNG")
    (folder / "loop").symlink_to(folder)
    said: list[str] = []
    found = by_name(load_data_set(folder, notify=said.append), [*names, "nameless"])
    assert (found["nameless"] == 77).all()
    expected = "1 .db, 1 .json, 2 .txt, 2 without a suffix"
    assert said[-1] == f"{folder} also holds files that are not used: {expected}"


def test_what_holds_no_data_set_is_refused_in_words(folder: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file or folder .*gone"):
        load_data_set(folder / "gone")
    with pytest.raises(DataError, match="holds no pictures: it is empty"):
        load_data_set(folder)
    (folder / "a.txt").write_text("words")
    with pytest.raises(DataError, match=r"holds no pictures: only other files \(1 \.txt\)"):
        load_data_set(folder)
    (folder / "nameless").write_text("words")
    with pytest.raises(DataError, match=r"holds no pictures: only other files \(1 \.txt, 1 without a suffix\)"):
        load_data_set(folder)
    fill(folder, 11)
    with pytest.raises(DataError, match="holds 11 images; at least 12 are needed"):
        load_data_set(folder)
    with pytest.raises(DataError, match=r"00\.png is no \.npy, .* and no zip or tar archive; .*not one picture"):
        load_data_set(folder / "00.png")
