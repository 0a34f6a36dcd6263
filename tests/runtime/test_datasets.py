from __future__ import annotations

import gzip
import hashlib
import io
import json
import mmap
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vae_gen.cache import cache_folder
from vae_gen.data_options import DataOptions
from vae_gen.datasets import DataSet, load_data_set
from vae_gen.errors import DataError, OutputError, UsageError
from vae_gen.picture_folders import default_size

BLACK, RED, WHITE = (0, 0, 0), (255, 0, 0), (255, 255, 255)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VAE_GEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    return path


def fill(folder: Path, count: int = 24, height: int = 6, width: int = 8) -> dict[str, np.ndarray]:
    """Grey PNG files that all differ; their pixels by name."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(count)
    pictures = {f"{number:02}.png": random.integers(0, 256, (height, width), np.uint8) for number in range(count)}
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / name)
    return pictures


def in_order(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def everything(data: DataSet) -> np.ndarray:
    parts = [data.validation, data.train] if data.test is None else [data.test, data.validation, data.train]
    return np.concatenate(parts)


def sizes(data: DataSet) -> tuple[int, int, int]:
    return len(data.train), len(data.validation), 0 if data.test is None else len(data.test)


def by_name(data: DataSet, names: list[str]) -> dict[str, np.ndarray]:
    """The images of a folder without split folders, by the names of their files."""
    return dict(zip(in_order(names), everything(data), strict=True))


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


# splits


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
        "sha256": hashlib.sha256(expected[2:].tobytes()).hexdigest(),
        "test_sha256": hashlib.sha256(expected[:2].tobytes()).hexdigest(),
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


# what is chosen


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
    Image.new("RGB", (8, 6), RED).save(folder / "red.png")
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


# what cannot be used


def spoil(folder: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, "JPEG")
    (folder / "cut.jpg").write_bytes(buffer.getvalue()[:1500])
    (folder / "text.png").write_text("hello")
    (folder / "empty.webp").touch()
    (folder / "nowhere.png").symlink_to(folder / "gone")


def test_broken_pictures_are_named_and_fail_the_run(folder: Path, cache: Path) -> None:
    fill(folder)
    spoil(folder)
    with pytest.raises(DataError) as raised:
        load_data_set(folder)
    lines = str(raised.value).splitlines()
    assert lines[0] == f"4 files in {folder} that cannot be read:"
    assert lines[1].startswith("  cut.jpg: ")
    assert lines[2:] == [
        "  empty.webp: it is empty",
        "  nowhere.png: No such file or directory",
        "  text.png: no picture that Pillow knows",
        "Repair or remove them, or leave them out with --skip-bad",
    ]
    assert not list(cache.iterdir())


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
    with pytest.raises(DataError, match=r"00\.png is no \.npy, \.npz or IDX file; .*not one picture"):
        load_data_set(folder / "00.png")


# the cache


def count_opens(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    opened: list[object] = []
    really = Image.open

    def opening(file: object, *arguments: object, **options: object) -> Image.Image:
        opened.append(file)
        return really(file, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Image, "open", opening)
    return opened


def test_a_folder_that_has_not_changed_is_not_read_again(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder)
    opened = count_opens(monkeypatch)
    said: list[list[str]] = [[], []]
    first = load_data_set(folder, notify=said[0].append)
    assert len(opened) >= 24
    opened.clear()
    again = load_data_set(folder, notify=said[1].append)
    assert opened == []
    assert "once; their pixels are kept in" in said[0][0]
    assert said[1] == said[0][1:]
    np.testing.assert_array_equal(everything(again), everything(first))
    assert again.describe() == first.describe()
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".npy"]

    Image.new("L", (8, 6), 3).save(folder / "00.png")  # another picture of that name
    changed = load_data_set(folder)
    assert opened
    assert changed.sha256 + str(changed.test_sha256) != first.sha256 + str(first.test_sha256)
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".npy"]  # the old pixels are gone
    load_data_set(folder, DataOptions(image_size=(4, 4)))
    assert len(list(cache.iterdir())) == 4


def test_a_cache_that_was_cut_is_made_again(folder: Path, cache: Path) -> None:
    fill(folder)
    first = load_data_set(folder).describe()
    (kept,) = cache.glob("*.npy")
    kept.write_bytes(kept.read_bytes()[:-1])
    assert load_data_set(folder).describe() == first
    next(cache.glob("*.json")).write_text("{")
    assert load_data_set(folder).describe() == first
    next(cache.glob("*.npy")).unlink()
    assert load_data_set(folder).describe() == first


def test_a_cache_that_cannot_be_written_is_named(
    folder: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder)
    with monkeypatch.context() as patch:

        def full(*arguments: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(np.lib.format, "write_array_header_1_0", full)
        with pytest.raises(OutputError, match=r"cannot write .*cache/data/.*\.npy: No space left.*set VAE_GEN_CACHE"):
            load_data_set(folder)
        assert not list(cache.iterdir())
    (tmp_path / "file").touch()
    monkeypatch.setenv("VAE_GEN_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"file/data: .*set VAE_GEN_CACHE to a folder that can be written"):
        load_data_set(folder)


def test_the_cache_lies_where_the_system_keeps_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder("data") == tmp_path / "cache" / "data"
    monkeypatch.delenv("VAE_GEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder("data") == tmp_path / "xdg" / "vae-gen" / "data"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder("data") == Path.home() / ".cache" / "vae-gen" / "data"


LIMITED = """
import resource, sys
from pathlib import Path
from vae_gen.datasets import load_data_set, DataOptions
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
limit = int(status["VmData"].split()[0]) * 1024 + 200 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
options = DataOptions(image_size=(512, 512), channels=3) if Path(sys.argv[1]).is_dir() else DataOptions()
data = load_data_set(Path(sys.argv[1]), options)
batch = data.train[[0, len(data.train) // 2, len(data.train) - 1]]
print(len(data.train), data.train.nbytes > 300 * 2**20, batch.shape, batch.flags.owndata, int(batch.max()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
@pytest.mark.parametrize("kind", ["folder", "array"])
def test_data_larger_than_the_memory_can_be_trained_on(folder: Path, tmp_path: Path, kind: str) -> None:
    if kind == "folder":
        for number in range(516):
            Image.new("RGB", (8, 8), (7, 7, 8)).save(folder / f"{number}.bmp")
    else:
        np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (516, 3, 512, 512))[:] = 8
    source = folder if kind == "folder" else tmp_path / "a.npy"
    output = subprocess.run([sys.executable, "-c", LIMITED, str(source)], capture_output=True, text=True, check=True)
    assert output.stdout == "430 True (3, 3, 512, 512) True 8\n"


# arrays


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


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
    assert data.sha256 == hashlib.sha256(images[:2].tobytes() + images[4:].tobytes()).hexdigest()
    assert data.test_sha256 == hashlib.sha256(images[2:4].tobytes()).hexdigest()
    assert [path.suffix for path in cache.iterdir()] == [".json"]  # the hash, but no copy
    assert load_data_set(tmp_path / "a.npy").describe() == data.describe()
    np.save(tmp_path / "a.npy", images[::-1])
    assert load_data_set(tmp_path / "a.npy").sha256 != data.sha256


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_may_come_first_or_last_or_be_none(tmp_path: Path, channels: int) -> None:
    images = pixels(24, channels, 6, 8)
    for name, array in (("first", images), ("last", np.moveaxis(images, 1, 3)), ("none", images[:, 0])):
        np.save(tmp_path / f"{name}.npy", array)
    first, last = (load_data_set(tmp_path / f"{name}.npy") for name in ("first", "last"))
    np.testing.assert_array_equal(last.train, images[4:])
    assert first.describe() == last.describe()
    assert load_data_set(tmp_path / "none.npy").image_shape == (1, 6, 8)


def test_axes_that_may_both_be_the_channels_need_a_word(tmp_path: Path) -> None:
    images = pixels(24, 3, 6, 4)
    np.save(tmp_path / "a.npy", images)
    with pytest.raises(DataError, match=r"shape \(24, 3, 6, 4\); both .* may be the channels: give --channels"):
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


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pixels(11, 6, 8), "holds 11 images; at least 12"),
        (pixels(24, 48), r"shape \(24, 48\); use \[n, H, W\]"),
        (pixels(24, 2, 6, 8), "neither its second nor its last axis is 1, 3 or 4"),
        (pixels(24, 6, 8).astype(np.int64), "numbers of type int64; use uint8, or floats"),
        (np.full((24, 6, 8), 16.0), r"values from 16 to 16; floats must lie in \[0, 1\]"),
        (np.full((24, 6, 8), np.nan), "values from nan"),
        (np.array([{}]), "cannot read"),
        (pixels(24, 0, 8), "holds no images"),
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
    with pytest.raises(DataError, match="images of several shapes"):
        load_data_set(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", x_train=pixels(24, 6, 8), train=pixels(24, 6, 8))
    with pytest.raises(DataError, match="holds both x_train and train"):
        load_data_set(tmp_path / "c.npz")
    (tmp_path / "d.npz").write_bytes((tmp_path / "c.npz").read_bytes()[:700])
    with pytest.raises(DataError, match=r"cannot read .*d\.npz"):
        load_data_set(tmp_path / "d.npz")


def test_the_origin_says_how_to_load_the_data_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder)
    monkeypatch.chdir(folder.parent)
    options = DataOptions((6, 4), 3, invert=True)
    data = load_data_set(Path("pictures"), options)
    values = json.loads(json.dumps(data.origin))
    assert values.pop("path") == str(folder)
    assert DataOptions.from_dict(values) == options
    assert str(folder) not in json.dumps(data.describe())
