"""vae-gen interpolate as a user types it, and the sheets that it and traverse draw."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from vae_gen.cli import main
from vae_gen.latents import draw

from tests.conftest import MODELS
from tests.runs import TINY
from tests.runtime import reference
from tests.runtime.commands import expected_pixels, frames_of, pixels, run, save_pictures, stream_of

pytestmark = pytest.mark.usefixtures("elsewhere")

SMALL = ("--model", TINY, "--scale", 1)
GAP, HIGH, WIDE = 2, 5, 4  # pixels: between pictures, and of a picture


def great_circle(start: np.ndarray, end: np.ndarray, t: float) -> np.ndarray:
    """Shoemake's formula for the directions, and the norm between the ends'."""
    norms = np.linalg.norm(start), np.linalg.norm(end)
    u, v = start / norms[0], end / norms[1]
    angle = np.arccos(u @ v)
    direction = (np.sin((1 - t) * angle) * u + np.sin(t * angle) * v) / np.sin(angle)
    return ((1 - t) * norms[0] + t * norms[1]) * direction


def tiles(sheet: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The pictures on a sheet of the tiny model: [rows, columns, 3, 5, 4]."""
    assert sheet.shape == (3, GAP + rows * (HIGH + GAP), GAP + columns * (WIDE + GAP))
    cells = [
        [sheet[:, y : y + HIGH, x : x + WIDE] for x in range(GAP, sheet.shape[2], WIDE + GAP)]
        for y in range(GAP, sheet.shape[1], HIGH + GAP)
    ]
    return np.array(cells)


def encoded(images: np.ndarray) -> np.ndarray:
    return reference.encode(images / np.float32(255))[0].astype(np.float32)


def test_seeds_of_the_shipped_default_give_a_moving_gif(capsys: pytest.CaptureFixture[str]) -> None:
    run("interpolate", 3, 7)
    assert capsys.readouterr().err == "60 frames in interpolate.gif\n"
    with Image.open("interpolate.gif") as animation:
        assert (animation.format, animation.n_frames, animation.size) == ("GIF", 60, (224, 224))
        assert animation.info["duration"] == 50
    assert all((one != other).any() for one, other in pairwise(frames_of("interpolate.gif")))


@pytest.mark.parametrize("path", ["spherical", "linear"])
@pytest.mark.parametrize("loop", [True, False])
def test_each_point_is_visited_once_and_the_way_between_is_even(path: str, loop: bool) -> None:
    points = [draw(seed, 0, 1, 3)[0].astype(np.float64) for seed in (5, 6, 8)]
    points += points[:1] if loop else []
    places = (0, 0.25, 0.5, 0.75)
    if path == "linear":
        way = [(1 - t) * start + t * end for start, end in pairwise(points) for t in places]
    else:
        way = [great_circle(start, end, t) for start, end in pairwise(points) for t in places]
    way += [] if loop else points[-1:]
    chosen = ("--path", "linear") if path == "linear" else ()  # spherical is the default
    run("interpolate", 5, 6, 8, *SMALL, "--frames", 5, "--out", "a.webp", *chosen, *(["--loop"] if loop else []))
    assert len(way) == (12 if loop else 9)
    np.testing.assert_array_equal(np.stack(frames_of("a.webp")), expected_pixels(np.array(way)))


def test_points_of_every_kind_may_be_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    save_pictures(draw(4, 0, 2, 3))
    run("encode", "pictures", "--model", TINY, "--out", "z.csv", "--quiet")
    run("encode", "pictures", "--model", TINY, "--out", "z.npz", "--quiet")
    np.save("z.npy", draw(9, 0, 2, 3))
    np.save("images.npy", expected_pixels(draw(10, 0, 2, 3)))
    Image.open("pictures/1.png").save("2.png")  # a name that begins like a seed
    monkeypatch.setattr(sys, "stdin", stream_of("0.1,0.2,0.3\n-1,-2,3\n"))
    points = (7, "7:41", "-0.5,1,2", "0.5,-1,0", "pictures", "2.png", "z.csv", "z.npz", "z.npy", "images.npy", "-")
    run("interpolate", *points, *SMALL, "--frames", 2, "--sheet", "--out", "sheet.png", "--quiet")
    means = encoded(expected_pixels(draw(4, 0, 2, 3)))
    latents = [
        draw(7, 0, 1, 3),
        draw(7, 41, 1, 3),
        [[-0.5, 1, 2], [0.5, -1, 0]],
        *(means, means[1:], means, means),
        draw(9, 0, 2, 3),
        encoded(expected_pixels(draw(10, 0, 2, 3))),
        [[0.1, 0.2, 0.3], [-1, -2, 3]],
    ]
    expected = expected_pixels(np.concatenate(latents))
    found = tiles(pixels("sheet.png"), len(expected) - 1, 2)
    np.testing.assert_array_equal(found[:, 0], expected[:-1])
    np.testing.assert_array_equal(found[:, 1], expected[1:])


def test_an_array_as_large_as_a_grey_picture_is_one() -> None:
    run("sample", "--seed", 7, "--n", 1, "--out", "images", "--quiet", "--model", "notebook")
    with Image.open("images/000000000.png") as image:
        np.save("image.npy", np.asarray(image))
    for name in ("image.npy", "images/000000000.png"):
        run("interpolate", name, 3, "--model", "notebook", "--out", f"{Path(name).stem}.gif", "--quiet")
    assert Path("image.gif").read_bytes() == Path("000000000.gif").read_bytes()


def test_opposite_points_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", stream_of("1,2,3\n2,0,1\n-2,0,-1\n"))
    assert main(["interpolate", "-", "--model", TINY]) == 2
    assert capsys.readouterr().err.startswith("Error: stdin[1] and stdin[2]: these points lie in opposite directions, ")


def test_seed_and_index_name_the_image_that_sample_makes() -> None:
    run("sample", "--seed", 7, "--start", 41, "--n", 1, "--out", "images", "--quiet", "--model", "notebook")
    run("interpolate", "7:41", 7, "--sheet", "--scale", 1, "--model", "notebook", "--quiet")
    with Image.open("interpolate.png") as sheet, Image.open("images/000000041.png") as image:  # the default name
        assert sheet.size == (2 + 11 * 30, 2 + 30)
        assert sheet.crop((2, 2, 30, 30)).tobytes() == image.tobytes()


def test_pictures_can_be_inverted() -> None:
    save_pictures(draw(4, 0, 2, 3))
    run("interpolate", "pictures/0.png", 2, "--invert", *SMALL, "--sheet", "--frames", 2, "--quiet")
    mean = encoded(255 - expected_pixels(draw(4, 0, 1, 3)))
    np.testing.assert_array_equal(tiles(pixels("interpolate.png"), 1, 2)[0, 0], expected_pixels(mean)[0])


def test_pictures_that_look_inverted_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    run("sample", "--n", 2, "--seed", 1, "--out", "digits", "--quiet")
    for path in Path("digits").glob("*.png"):
        with Image.open(path) as image:
            ImageOps.invert(image).save(path)
    run("interpolate", "digits", "--frames", 2)
    assert "black and white swapped: try --invert" in capsys.readouterr().err


def test_a_file_whose_name_is_a_number_needs_a_folder_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    save_pictures(draw(4, 0, 1, 3))
    Path("3").write_bytes(Path("pictures/0.png").read_bytes())
    run("interpolate", 3, "./3", *SMALL, "--sheet", "--frames", 2)
    assert capsys.readouterr().err.startswith("3 is a seed; ./3 is the file here\n")
    expected = np.concatenate([draw(3, 0, 1, 3), encoded(expected_pixels(draw(4, 0, 1, 3)))])
    np.testing.assert_array_equal(tiles(pixels("interpolate.png"), 1, 2)[0], expected_pixels(expected))


def test_options_that_begin_like_numbers_are_still_options() -> None:
    plain = MODELS / "foreign" / "plain.onnx"
    run("interpolate", "-1,0.5,2", 3, "--model", plain, "--value-range", "-1,1", "--frames", 2, "--out", "a.png")
    run("interpolate", "--model", plain, "--value-range", "-1,1", "--frames", 2, "--out", "b.png", "--", "-1,0.5,2", 3)
    run("interpolate", "-1,0.5,2", 3, "--model", plain, "--value-range", "0,1", "--frames", 2, "--out", "c.png")
    same, other = (Path(name).read_bytes() for name in ("b.png", "c.png"))
    assert Path("a.png").read_bytes() == same != other


def test_a_caption_above_a_frame_says_where_it_is() -> None:
    options = ("--model", "notebook", "--frames", 3, "--scale", 8)
    run("interpolate", 3, 4, 5, *options, "--out", "plain.gif")
    run("interpolate", 3, 4, 5, *options, "--caption", "--out", "captioned.gif")
    plain, captioned = frames_of("plain.gif"), frames_of("captioned.gif")
    above = captioned[0].shape[1] - 224
    assert above > 10
    np.testing.assert_array_equal(captioned[3][:, above:], plain[3])
    assert len({frame[:, :above].tobytes() for frame in captioned}) == 5


def test_names_of_files_in_captions_stay_short() -> None:
    save_pictures(draw(4, 0, 1, 3))
    sheets = set()
    for name in (17 * "a" + ".png", 60 * "a" + ".png", "a/b/" + 60 * "a" + ".png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(Path("pictures/0.png").read_bytes())
        run("interpolate", name, 3, "--model", TINY, "--sheet", "--caption")
        sheets.add(Path("interpolate.png").read_bytes())
    run("interpolate", "pictures/0.png", 3, "--model", TINY, "--sheet", "--caption", "--out", "one.png")
    run("interpolate", "pictures/../pictures/0.png", 3, "--model", TINY, "--sheet", "--caption", "--out", "two.png")
    assert len(sheets) == 1
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()


def test_what_is_written_is_none_of_what_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    save_pictures(draw(4, 0, 2, 3))
    before = Path("pictures/1.png").read_bytes()
    for points in (("pictures/1.png", 3), ("pictures",), ("3", "pictures/../pictures")):
        arguments = ["interpolate", *map(str, points), "--model", TINY, "--sheet", "--out", "pictures/1.png"]
        assert main(arguments) == 2
        assert f"--out {Path('pictures/1.png')} would replace a file that is read" in capsys.readouterr().err
    assert Path("pictures/1.png").read_bytes() == before


def test_a_decoder_alone_has_no_place_for_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    save_pictures(draw(4, 0, 1, 3))
    assert main(["interpolate", "pictures/0.png", "3", "--model", str(MODELS / "foreign" / "plain.onnx")]) == 1
    assert "plain.onnx is a decoder alone; this needs a bundle that has an encoder.onnx too" in capsys.readouterr().err
    assert not Path("interpolate.gif").exists()


def test_latents_of_another_model_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("z.npy", draw(9, 0, 2, 3))
    assert main(["interpolate", "z.npy"]) == 1
    assert "z.npy holds float32 numbers of shape [2, 3]; latents of this model are" in capsys.readouterr().err


def test_traverse_draws_a_sheet_of_one_latent(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ("--z", "0.5,-1,2", "--from", -2, "--to", 2)
    run("traverse", *SMALL, *sweep, "--dim", 1, "--frames", 5, "--sheet")
    assert capsys.readouterr().err == "1 row of 5 images in traverse.png\n"
    z = np.array([[0.5, value, 2] for value in (-2, -1, 0, 1, 2)])
    np.testing.assert_array_equal(tiles(pixels("traverse.png"), 1, 5)[0], expected_pixels(z))


def test_traverse_draws_a_sheet_with_a_row_for_each_latent() -> None:
    options = ("--model", TINY, "--z", "0.5,-1,2", "--sheet")
    run("traverse", *options, "--scale", 1)
    values = np.linspace(-3, 3, 11)
    found = tiles(pixels("traverse.png"), 3, 11)
    for dim in range(3):
        z = np.tile([0.5, -1, 2], (11, 1))
        z[:, dim] = values
        np.testing.assert_array_equal(found[dim], expected_pixels(z))
    run("traverse", *options, "--out", "large.PNG")  # 16 times as large, to 64 pixels
    np.testing.assert_array_equal(pixels("large.PNG"), pixels("traverse.png").repeat(16, 1).repeat(16, 2))


def test_captions_stand_beside_the_rows_and_columns_of_a_sheet() -> None:
    sweep = ("traverse", "--model", TINY, "--z", "0.5,-1,2", "--sheet", "--frames", 4)
    run(*sweep, "--out", "plain.png")
    run(*sweep, "--caption", "--out", "captioned.png")
    plain, captioned = pixels("plain.png"), pixels("captioned.png")
    top, left = captioned.shape[1] - plain.shape[1], captioned.shape[2] - plain.shape[2]
    np.testing.assert_array_equal(captioned[:, top:, left:], plain)
    assert captioned[:, :top].max() == captioned[:, :, :left].max() == 128  # the grey of the grid
    high, wide = 16 * 7, 16 * 6
    rows = [captioned[:, top + row * high : top + (row + 1) * high, :left] for row in range(3)]
    columns = [captioned[:, :top, left + column * wide : left + (column + 1) * wide] for column in range(4)]
    for labels in (rows, columns):
        assert all(0 < (label < 64).mean() < 0.1 for label in labels)  # each has its own text, in black
        assert len({label.tobytes() for label in labels}) == len(labels)
    assert not (captioned[:, :top, :left] < 128).any()


def test_captions_of_small_pictures_leave_each_other_room() -> None:
    run("traverse", *SMALL, "--z", "0.5,-1,2", "--sheet", "--frames", 37, "--caption")
    captioned = pixels("traverse.png")[0]
    top = 18 - 4  # pixels, but those of the first row's name above the row
    middles = {}
    above, beside = captioned[:top] < 64, captioned[top:, :25] < 64
    for name, dark, apart in (("columns", above.any(0), 4), ("rows", beside.any(1), 1)):
        inked = np.flatnonzero(dark)
        assert 0 < inked[0] < inked[-1] < len(dark) - 1  # nothing is cut off
        labels = np.split(inked, np.flatnonzero(np.diff(inked) > apart) + 1)
        middles[name] = [(label[0] + label[-1]) / 2 for label in labels]
    # Every seventh of 37 columns, each 6 wide, and the first and last of 3 rows, each 7 high.
    np.testing.assert_allclose(np.diff(middles["columns"]), [42] * 5, atol=1)
    np.testing.assert_allclose(np.diff(middles["rows"]), [14], atol=1)
