from __future__ import annotations

import gzip
import io
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from vae_gen.data.pictures import load_pictures
from vae_gen.data.tones import Tones
from vae_gen.errors import DataError
from vae_gen.idx import read_idx, read_idx_file
from vae_gen.png import save_figure

from tests.systems import needs_names_without_text

GREY, COLOR, ALPHA = (1, 5, 4), (3, 5, 4), (4, 5, 4)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape) + array.tobytes()


def pixels(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_a_grey_and_a_colour_picture_keep_their_pixels(tmp_path: Path) -> None:
    grey, color = pixels((5, 4)), pixels((5, 4, 3))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(color).save(tmp_path / "color.png")
    loaded = load_pictures([tmp_path / "grey.png"], GREY)
    assert loaded.names == [str(tmp_path / "grey.png")]
    np.testing.assert_array_equal(loaded.images[0, 0], grey / np.float32(255))
    np.testing.assert_array_equal(
        load_pictures([tmp_path / "color.png"], COLOR).images[0], color.transpose(2, 0, 1) / np.float32(255)
    )
    np.testing.assert_array_equal(
        load_pictures([tmp_path / "grey.png"], COLOR).images[0], np.broadcast_to(grey / np.float32(255), (3, 5, 4))
    )


def test_colour_becomes_grey_by_the_usual_luma(tmp_path: Path) -> None:
    Image.new("RGB", (4, 5), (200, 100, 50)).save(tmp_path / "color.png")
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50  # ITU-R 601-2
    assert load_pictures([tmp_path / "color.png"], GREY).images[0, 0, 0, 0] * 255 == pytest.approx(luma, abs=1)


def test_transparent_parts_become_white_or_stay_an_alpha_channel(tmp_path: Path) -> None:
    rgba = np.zeros((5, 4, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    color = load_pictures([tmp_path / "a.png"], COLOR).images[0]
    np.testing.assert_array_equal(np.round(color[:, 0, 0] * 255), [10, 20, 30])
    assert (color[:, 1:] == 1).all()
    kept = load_pictures([tmp_path / "a.png"], ALPHA).images[0]
    np.testing.assert_array_equal(kept * 255, rgba.transpose(2, 0, 1))


def test_a_palette_with_transparency_is_composited(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 5), 0)
    picture.putpalette([9, 9, 9, 200, 200, 200])
    picture.putpixel((3, 4), 1)
    picture.save(tmp_path / "p.png", transparency=0)
    image = load_pictures([tmp_path / "p.png"], GREY).images[0, 0]
    assert image[0, 0] == 1
    assert image[4, 3] * 255 == pytest.approx(200)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 20).reshape(5, 4).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "16.png")
    image = load_pictures([tmp_path / "16.png"], GREY).images[0, 0]
    np.testing.assert_allclose(image, values / 65535, atol=0.5 / 255 + 1e-6)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    Image.fromarray(pixels((4, 5))).save(tmp_path / "turned.png", exif=exif)
    image = load_pictures([tmp_path / "turned.png"], GREY).images[0, 0]
    np.testing.assert_array_equal(np.round(image * 255), np.rot90(pixels((4, 5)), -1))


def test_another_size_is_cropped_about_its_centre(tmp_path: Path) -> None:
    wide = np.zeros((5, 40), np.uint8)
    wide[:, 18:22] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert (load_pictures([tmp_path / "wide.png"], GREY).images == 1).all()


def test_invert_swaps_black_and_white_but_not_alpha(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 5), (0, 255, 51, 255)).save(tmp_path / "a.png")
    image = load_pictures([tmp_path / "a.png"], ALPHA, Tones(invert=True)).images[0, :, 0, 0]
    np.testing.assert_allclose(image, [1, 0, 0.8, 1], atol=1e-6)


def test_a_folder_gives_its_pictures_by_name_and_nothing_else(tmp_path: Path) -> None:
    for level, name in ((1, "b.png"), (2, "a.jpg"), (3, "c.bmp")):
        Image.new("L", (4, 5), level).save(tmp_path / name, quality=100)
    for other in ("manifest.json", "paper.pdf", "._a.png"):
        (tmp_path / other).write_text("{}")
    loaded = load_pictures([tmp_path], GREY)
    assert [Path(name).name for name in loaded.names] == ["a.jpg", "b.png", "c.bmp"]
    assert np.round(loaded.images[:, 0, 0, 0] * 255).tolist() == [2, 1, 3]


def test_pictures_may_stand_in_folders_below_and_arrays_count_where_there_are_none(tmp_path: Path) -> None:
    for name in ("a/2.npy", "1.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / name, pixels((1, 5, 4)))
    assert load_pictures([tmp_path], GREY).names == [str(tmp_path / name) for name in ("1.npy", "a/2.npy")]
    for level, name in ((1, "c.png"), (2, "b/00001/d.png"), (3, "b/00000/e.png"), (4, "b/.f.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        Image.new("L", (4, 5), level).save(tmp_path / name)
    loaded = load_pictures([tmp_path], GREY)
    assert loaded.names == [str(tmp_path / name) for name in ("b/00000/e.png", "b/00001/d.png", "c.png")]
    assert np.round(loaded.images[:, 0, 0, 0] * 255).tolist() == [3, 2, 1]


@needs_names_without_text
def test_a_name_that_is_no_text_is_shown_as_one(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"a\xff.png")
    Image.new("L", (4, 5)).save(path)
    assert load_pictures([path], GREY).names == [f"{tmp_path}/a\N{REPLACEMENT CHARACTER}.png"]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_idx_files_give_numbered_images(tmp_path: Path, compress: object) -> None:
    images = pixels((3, 5, 4))
    (tmp_path / "images").write_bytes(compress(idx(images)))
    loaded = load_pictures([tmp_path / "images"], GREY)
    assert loaded.names[2] == f"{tmp_path / 'images'}[2]"
    np.testing.assert_array_equal(np.round(loaded.images[:, 0] * 255), images)


@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 1, 5, 4), (1, 5, 4), (5, 4)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
def test_arrays_of_the_right_shape_are_taken(tmp_path: Path, shape: tuple[int, ...], kind: type) -> None:
    array = pixels(shape) if kind is np.uint8 else np.random.default_rng(0).random(shape).astype(kind)
    np.save(tmp_path / "a.npy", array)
    expected = array.reshape(-1, 1, 5, 4) / (255 if kind is np.uint8 else 1)
    np.testing.assert_allclose(load_pictures([tmp_path / "a.npy"], GREY).images, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 10, 8), np.uint8), r"\(3, 10, 8\); two of its axes may be the channels: save \[n, 1, H, W\]"),
        (np.zeros((10, 8, 3), np.uint8), r"\(10, 8, 3\); two of its axes may be the channels: save \[n, 1, H, W\]"),
        (np.zeros((10, 20), np.uint8), r"shape \(10, 20\); use \[n, H, W\]"),
        (np.zeros((2, 5, 5, 5), np.uint8), r"shape \(2, 5, 5, 5\); neither"),
        (np.zeros((0, 5, 4), np.uint8), "holds no images"),
        (np.zeros((), np.uint8), r"shape \(\)"),
        (np.zeros((2, 5, 4), np.int32), "type int32; use uint8, or floats"),
        (np.full((2, 5, 4), 2.0), r"from 2 to 2; pixels must lie in \[0, 1\]; say with --white"),
        (np.full((2, 5, 4), np.nan), "holds values that are no numbers"),
        (np.array([{}]), "cannot read"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=message) as raised:
        load_pictures([tmp_path / "a.npy"], GREY)
    assert str(tmp_path / "a.npy") in str(raised.value)


@pytest.mark.parametrize("model", [GREY, COLOR, ALPHA, (4, 3, 4), (3, 4, 3)])
def test_the_axes_of_arrays_are_those_that_make_the_model_s_images(tmp_path: Path, model: tuple[int, int, int]) -> None:
    images = pixels((2, *model))
    last = images.transpose(0, 2, 3, 1)
    arrays = [images, last, images[:1], last[:1], images[0], last[0]]
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
        found = np.round(load_pictures([tmp_path / f"{number}.npy"], model).images * 255)
        np.testing.assert_array_equal(found, images if number < 2 else images[:1])


@pytest.mark.parametrize("scale", [1, 255])
def test_arrays_of_another_size_or_colour_are_fitted_as_pictures_are(tmp_path: Path, scale: int) -> None:
    images = pixels((3, 10, 12, 3))
    np.save(tmp_path / "a.npy", images if scale == 1 else images / np.float32(scale))
    for shape in (GREY, COLOR):
        expected = []
        for image in images:
            picture = Image.fromarray(image).convert("L" if shape == GREY else "RGB")
            expected.append(np.asarray(ImageOps.fit(picture, (4, 5), Image.Resampling.LANCZOS)).reshape(5, 4, -1))
        found = load_pictures([tmp_path / "a.npy"], shape).images * 255
        np.testing.assert_array_equal(np.round(found), np.stack(expected).transpose(0, 3, 1, 2))


def test_an_npz_file_gives_all_its_images_and_no_labels(tmp_path: Path) -> None:
    train, test = pixels((2, 5, 4)), pixels((3, 5, 4), seed=1)
    a, b = tmp_path / "a.npz", tmp_path / "b.npz"
    np.savez(a, x_test=test, x_train=train, y_train=np.array([{}, {}]))
    np.savez_compressed(b, train)
    loaded = load_pictures([a, b], GREY)
    places = ["/test[0]", "/test[1]", "/test[2]", "/train[0]", "/train[1]"]
    assert loaded.names == [*(f"{a}{place}" for place in places), f"{b}[0]", f"{b}[1]"]
    np.testing.assert_array_equal(np.round(loaded.images[:, 0] * 255), np.concatenate([test, train, train]))


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels((50, 40))).save(buffer, "PNG")
    return buffer.getvalue()


def npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def floating_point() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((5, 4), np.float32)).save(buffer, "TIFF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (
            b"hello",
            "broken: not in a picture format that Pillow can read, and neither an .npy, .npz or IDX file nor a tar",
        ),
        (png()[:200], "cannot read"),
        (png()[:60] + b"\0" * 40 + png()[100:], "cannot read"),
        (gzip.compress(idx(pixels((3, 5, 4))))[:40], "cannot read"),
        (gzip.compress(b""), "is empty"),
        (idx(pixels((3, 5, 4)))[:-1], r"is truncated: 59 bytes follow its header, and for shape \(3, 5, 4\) it is 60"),
        (idx(pixels((3, 5, 4)))[:10], "is truncated: it ends in its header"),
        (idx(pixels((3, 5, 4))) + b"x", "is longer than its header says"),
        (idx(pixels((7,))), r"1 dimensions \(labels\); 3 or 4 are needed \(images\)"),
        (idx(pixels((3, 10, 8))), r"shape \(3, 10, 8\)"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((", "cannot read"),
        (npy_header((10**12, 10**6)), "cannot read"),
        (floating_point(), "its values go from 0 to 0, and --white must say which of them is white"),
    ],
    ids=range(14),
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "broken").write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        load_pictures([tmp_path / "broken"], GREY)
    assert str(tmp_path / "broken") in str(raised.value)


def test_nothing_to_load_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"")
    kinds = r"no \.npy, \.npz, \.tar, \.zip, \.idx, \.tar\.gz, \.tgz files"
    others = f"holds no pictures, and {kinds}; give others by their names"
    with pytest.raises(DataError, match=others):
        load_pictures([tmp_path], GREY)
    save_figure(np.zeros((1, 9, 9), np.uint8), tmp_path / "samples.png")
    others = rf"holds no pictures but 1 drawn by vae-gen \(sheets, curves, animations\), and {kinds}"
    with pytest.raises(DataError, match=others):
        load_pictures([tmp_path], GREY)
    with pytest.raises(DataError, match=r"no file or folder .*missing"):
        load_pictures([tmp_path / "missing"], GREY)


def test_of_a_packed_idx_file_no_more_is_unpacked_than_it_promises(tmp_path: Path) -> None:
    """A gzip file of a megabyte may hold gigabytes."""
    content = idx(pixels((3, 5, 4)))
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(content + bytes(10**8)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="longer than its header says"):
            load_pictures([tmp_path / "bomb.gz"], GREY)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10**7


def test_idx_of_another_element_type_is_refused() -> None:
    with pytest.raises(DataError, match="IDX type 0x0d; only 0x08"):
        read_idx(io.BytesIO(idx(pixels((3, 5, 4)), kind=13)), "here", 3)
    with pytest.raises(DataError, match="does not begin with two zero bytes"):
        read_idx(io.BytesIO(b"PNG!...."), "here", 3)


@pytest.mark.mnist
def test_mnist_reads_as_published(mnist: Path) -> None:
    images = read_idx_file(mnist / "t10k-images-idx3-ubyte.gz", 3)
    assert images.shape == (10000, 28, 28)
    assert images.mean() == pytest.approx(0.1325 * 255, abs=0.05)
