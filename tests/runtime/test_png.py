from __future__ import annotations

import io
import subprocess
import sys
import zlib
from itertools import product
from types import ModuleType

import numpy as np
import png as pypng
import pytest
from PIL import Image
from vae_gen import deflate
from vae_gen.errors import DataError, UsageError
from vae_gen.images import ByteImages
from vae_gen.png import PngEncoder, encode_png
from zlib_ng import zlib_ng

from tests.runtime.png_reference import read_png

SIZES = [(1, 1), (1, 9), (9, 1), (5, 7), (28, 28), (64, 64)]
SHAPES = [(channels, *size) for channels in (1, 3, 4) for size in SIZES]


def contents(shape: tuple[int, int, int]) -> ByteImages:
    """Nine images [9, C, H, W]: flat, noise, two levels, gradients, smooth."""
    rng = np.random.default_rng(0)
    channel, row, column = np.indices(shape)
    steps = rng.integers(-2, 3, shape)
    images = [
        np.zeros(shape),
        np.full(shape, 255),
        rng.integers(0, 256, shape),
        rng.integers(0, 2, shape) * 255,
        5 * row + 60 * channel,
        7 * column + 50 * channel,
        3 * row - 4 * column + 90 * channel,
        128 + steps.cumsum(axis=1).cumsum(axis=2),
        (row - column) ** 2 + channel,
    ]
    return np.stack(images).astype(np.int64).astype(np.uint8)


def by_pillow(content: bytes) -> ByteImages:
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "PNG"
        assert picture.mode in {"L", "RGB", "RGBA"}
        picture.load()
        pixels = np.asarray(picture)
    return np.moveaxis(pixels.reshape(*pixels.shape[:2], -1), -1, 0)


def by_pypng(content: bytes) -> ByteImages:
    width, height, rows, info = pypng.Reader(bytes=content).read()
    assert (info["bitdepth"], info["interlace"]) == (8, 0)
    return np.stack([np.asarray(row) for row in rows]).reshape(height, width, info["planes"]).transpose(2, 0, 1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_three_decoders_find_the_pixels(shape: tuple[int, int, int]) -> None:
    images = contents(shape)
    files = PngEncoder(shape).encode(images)
    assert len(files) == len(images)
    for content, image in zip(files, images, strict=True):
        picture = read_png(content)
        np.testing.assert_array_equal(picture.pixels, image)
        np.testing.assert_array_equal(by_pillow(content), image)
        np.testing.assert_array_equal(by_pypng(content), image)
        assert picture.texts == []
        assert picture.filters == [0 if np.prod(shape) <= 1024 else 4] * shape[1]


def test_the_reference_reads_every_filter_as_pypng_does() -> None:
    width, height, channels = 9, 25, 3
    rows = np.random.default_rng(1).integers(0, 256, (height, 1 + width * channels), np.uint8)
    rows[:, 0] = [kind for pair in product(range(5), repeat=2) for kind in pair][1::2]
    content = encode_png(np.zeros((channels, height, width), np.uint8))
    start = content.index(b"IDAT") - 4
    stream = b"IDAT" + zlib.compress(rows.tobytes())
    content = content[:start] + (len(stream) - 4).to_bytes(4, "big") + stream + zlib.crc32(stream).to_bytes(4, "big")
    content += bytes(4) + b"IEND" + zlib.crc32(b"IEND").to_bytes(4, "big")
    picture = read_png(content)
    assert set(picture.filters) == set(range(5))
    np.testing.assert_array_equal(picture.pixels, by_pypng(content))
    np.testing.assert_array_equal(picture.pixels, by_pillow(content))


@pytest.mark.parametrize("spot", [3, 14, 20, 26, 30, 36, 41, 45, -20, -14, -9, -3])
def test_the_reference_notices_a_changed_byte(spot: int) -> None:
    content = bytearray(encode_png(contents((3, 28, 28))[2]))
    content[spot] ^= 1
    with pytest.raises((AssertionError, zlib.error)):
        read_png(bytes(content))


def test_paeth_chooses_as_the_specification_does() -> None:
    # Every order, tie and distance of the three neighbours that small numbers have, and the ends of the range.
    levels = [0, 1, 2, 3, 5, 127, 128, 250, 254, 255]
    neighbours = np.array(list(product(levels, repeat=3)), np.uint8)
    left, above, corner = neighbours.T
    image = np.zeros((1, 2, 2 * len(neighbours)), np.uint8)
    image[0, 0, ::2], image[0, 0, 1::2], image[0, 1, ::2] = corner, above, left
    picture = read_png(encode_png(image))
    assert picture.filters == [4, 4]
    np.testing.assert_array_equal(picture.pixels, image)


def test_images_larger_than_a_block_are_filtered_across_its_end() -> None:
    images = np.random.default_rng(3).integers(0, 256, (3, 4, 97, 101), np.uint8)
    assert images[0].size > 2**15
    for content, image in zip(PngEncoder((4, 97, 101)).encode(images), images, strict=True):
        np.testing.assert_array_equal(by_pillow(content), image)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 28, 28), (1, 64, 64)], ids=str)
def test_a_file_does_not_depend_on_its_batch(shape: tuple[int, int, int]) -> None:
    encoder = PngEncoder(shape, {"Software": "tests"})
    images = contents(shape)
    files = encoder.encode(images, range(len(images)))
    assert encoder.encode(images[::-1], range(len(images))[::-1]) == files[::-1]
    for index, image in enumerate(images):
        assert encoder.encode(image[None], [index]) == [files[index]]
        assert PngEncoder(shape).encode(image[None]) == [encode_png(image)]
    assert encoder.encode(images[:0]) == []


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 20, 30)], ids=str)
def test_arrays_in_any_order_of_memory(shape: tuple[int, int, int]) -> None:
    images = contents(shape)
    expected = PngEncoder(shape).encode(images)
    channels_last = np.ascontiguousarray(np.moveaxis(images, 1, -1))
    wide = np.zeros((2 * len(images), shape[0], shape[1], 2 * shape[2]), np.uint8)
    wide[::2, :, :, ::2] = images
    read_only = images.copy()
    read_only.flags.writeable = False
    for same in (np.moveaxis(channels_last, -1, 1), wide[::2, :, :, ::2], np.asfortranarray(images), read_only):
        assert PngEncoder(shape).encode(same) == expected


def test_texts_and_the_index_stand_in_every_file() -> None:
    texts = {"Software": "vae-gen", "Comment": "größer\nthan before", "Überschrift": "", "k" * 79: "longest"}
    images = contents((1, 28, 28))[:3]
    encoder = PngEncoder((1, 28, 28), texts)
    for content in encoder.encode(images):
        assert read_png(content).texts == list(texts.items())
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.info == texts
    indices = [7, 0, 10**12]
    for content, index in zip(encoder.encode(images, indices), indices, strict=True):
        assert read_png(content).texts == [*texts.items(), ("Index", str(index))]
    assert encoder.encode(images, np.array(indices).tolist()) == encoder.encode(images, list(np.array(indices)))


@pytest.mark.parametrize(
    "keyword", ["", "k" * 80, " Title", "Title ", "A  title", "A\ntitle", "A\0title", "A\xa0title", "A\x7f"], ids=repr
)
def test_what_is_no_keyword_is_refused(keyword: str) -> None:
    with pytest.raises(UsageError, match=r"is no keyword of a PNG's text; it has 1 to 79 printable characters"):
        PngEncoder((1, 2, 2), {keyword: "text"})


def test_texts_that_png_cannot_hold_are_refused() -> None:
    with pytest.raises(UsageError, match="'β' in a PNG's text 'β-VAE': only Latin-1 is allowed"):
        PngEncoder((1, 2, 2), {"β-VAE": "text"})
    with pytest.raises(UsageError, match="'β' in a PNG's text 'Model': only Latin-1 is allowed"):
        PngEncoder((1, 2, 2), {"Model": "β-VAE"})
    with pytest.raises(UsageError, match="the text of 'Model' holds a null character"):
        PngEncoder((1, 2, 2), {"Model": "a\0b"})
    with pytest.raises(UsageError, match="the keyword 'Index' is for the index"):
        PngEncoder((1, 2, 2), {"Index": "7"})


@pytest.mark.parametrize("shape", [(5, 2, 2), (2, 2, 2), (0, 2, 2), (2, 2), (1, 1, 2, 2)], ids=str)
def test_shapes_of_other_images_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match=r"become no PNG files; \[C, H, W\] with C = 1, 3 or 4 do"):
        PngEncoder(shape)


@pytest.mark.parametrize("shape", [(1, 0, 2), (1, 2, 0), (1, 2**31, 1), (1, 1, 2**31)], ids=str)
def test_sides_that_png_does_not_know_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match=f"no images of {shape[2]} by {shape[1]} pixels; a side has 1 to 2147483647"):
        PngEncoder(shape)


def test_images_that_do_not_fit_the_encoder_are_refused() -> None:
    encoder = PngEncoder((3, 4, 5))
    with pytest.raises(DataError, match=r"images are uint8 \[2, 3, 5, 4\]; they must be uint8 \['n', 3, 4, 5\]"):
        encoder.encode(np.zeros((2, 3, 5, 4), np.uint8))
    with pytest.raises(DataError, match=r"images are int8 \[2, 3, 4, 5\]"):
        encoder.encode(np.zeros((2, 3, 4, 5), np.int8))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="there are 3 indices for 2 images"):
        encoder.encode(np.zeros((2, 3, 4, 5), np.uint8), range(3))


@pytest.mark.parametrize("library", [zlib, zlib_ng], ids=lambda module: module.__name__)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 28, 28)], ids=str)
def test_both_deflate_implementations_keep_the_pixels(
    monkeypatch: pytest.MonkeyPatch, library: ModuleType, shape: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(deflate, "_library", library)
    images = contents(shape)
    for index, content in enumerate(PngEncoder(shape).encode(images, range(len(images)))):
        picture = read_png(content)
        np.testing.assert_array_equal(picture.pixels, images[index])
        assert picture.texts == [("Index", str(index))]


def test_zlib_ng_is_chosen_where_it_is_installed() -> None:
    assert f"zlib-ng {zlib_ng.ZLIBNG_RUNTIME_VERSION}" == deflate.NAME
    image = contents((1, 28, 28))[0]
    filtered = np.pad(image[0], ((0, 0), (1, 0))).tobytes()
    assert zlib_ng.compress(filtered, 1, 12) in encode_png(image)


WITHOUT_ZLIB_NG = """
import sys, zlib
sys.modules["zlib_ng"] = None
import numpy as np
from vae_gen import deflate
from vae_gen.png import PngEncoder
assert deflate.NAME == f"zlib {zlib.ZLIB_RUNTIME_VERSION}", deflate.NAME
assert "PIL" not in sys.modules
for shape in ((1, 2, 3), (3, 20, 21)):
    images = np.arange(np.prod(shape)).astype(np.uint8).reshape(1, *shape)
    print(PngEncoder(shape).encode(images)[0].hex())
"""


def test_without_zlib_ng_and_without_pillow() -> None:
    run = subprocess.run([sys.executable, "-c", WITHOUT_ZLIB_NG], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    small, large = (read_png(bytes.fromhex(line)) for line in run.stdout.split())
    assert small.pixels.tolist() == [[[0, 1, 2], [3, 4, 5]]]
    np.testing.assert_array_equal(large.pixels, np.arange(1260).astype(np.uint8).reshape(3, 20, 21))


def test_files_are_as_small_as_measured() -> None:
    """Each bound lies between what the encoder's choice makes and what its best alternative would."""
    row, column = np.indices((64, 64)) / 64
    waves = np.stack([np.sin(3 * row + phase) * np.cos(5 * column - phase) for phase in (0, 1, 2)])
    assert len(encode_png((127.5 + 127 * waves).astype(np.uint8))) <= 4440  # Up, with matches: 4538
    spot_on_flat_ground = np.zeros((1, 28, 28), np.uint8)
    spot_on_flat_ground[0, 5:23, 10:20] = np.random.default_rng(0).integers(0, 256, (18, 10))
    assert len(encode_png(spot_on_flat_ground)) <= 310  # Up: 324
    assert len(encode_png(np.full((3, 64, 64), 200, np.uint8))) <= 200  # Huffman codes without runs: 1631
