"""vae-gen traverse as a user types it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import vae_gen
from PIL import Image
from vae_gen.cli import main
from vae_gen.latents import draw
from vae_gen.paths import traversal

from tests.runs import TINY
from tests.runtime import reference
from tests.runtime.commands import expected_pixels, frames_of, run, save_pictures

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_traverse_of_the_shipped_default_gives_a_moving_gif() -> None:
    run("traverse", "--dim", 7)
    with Image.open("traverse.gif") as animation:
        assert (animation.format, animation.n_frames, animation.size) == ("GIF", 60, (224, 224))
    seen = frames_of("traverse.gif")
    assert all((one != other).any() for one, other in pairwise(seen))


def test_the_notebooks_own_sweep() -> None:
    z = "-1.0,1.0,0.1,0.3,-0.2,0.7,-0.5,-2.5"
    sweep = ("--model", "notebook", "--z", z, "--dim", 7, "--from", -2.4, "--to", 2.5, "--frames", 50)
    run("traverse", *sweep, "--caption", "--out", "captioned.gif")
    run("traverse", *sweep, "--out", "plain.gif")
    assert len(frames_of("captioned.gif")) == len(frames_of("plain.gif")) == 50
    strip = frames_of("captioned.gif")[0].shape[1] - 224
    assert strip > 0
    np.testing.assert_array_equal(frames_of("captioned.gif")[20][:, strip:], frames_of("plain.gif")[20])


def test_traverse_sweeps_the_latent_that_is_named() -> None:
    z = np.array([0.5, -1.0, 2.0])
    sweep = ("--z", "0.5,-1,2", "--dim", 1, "--from", -2, "--to", 2, "--frames", 5)
    run("traverse", "--model", TINY, *sweep, "--scale", 3, "--out", "a.webp", "--fps", 5, "--threads", 1)
    values = np.array([-2, -1, 0, 1, 2])
    expected = expected_pixels(traversal(z, 1, values)).repeat(3, 2).repeat(3, 3)
    np.testing.assert_array_equal(np.stack(frames_of("a.webp")), expected)
    with Image.open("a.webp") as animation:
        animation.load()
        assert animation.info["duration"] == 200


def test_traverse_starts_from_a_seed_or_a_picture() -> None:
    z = draw(4, 0, 1, 3)
    save_pictures(z)
    options = ("--model", TINY, "--dim", 0, "--frames", 2, "--from", 1, "--to", 2, "--scale", 1)
    run("traverse", *options, "--seed", 4, "--out", "seed.webp")
    np.testing.assert_array_equal(frames_of("seed.webp"), expected_pixels(traversal(z[0], 0, np.array([1, 2]))))
    run("traverse", *options, "--picture", "pictures/0.png", "--out", "picture.webp")
    mean = reference.encode(expected_pixels(z) / np.float32(255))[0].astype(np.float32)
    np.testing.assert_array_equal(frames_of("picture.webp"), expected_pixels(traversal(mean[0], 0, np.array([1, 2]))))
    run("traverse", *options, "--picture", "pictures/0.png", "--invert", "--out", "inverted.webp")
    mean = reference.encode(1 - expected_pixels(z) / np.float32(255))[0].astype(np.float32)
    np.testing.assert_array_equal(frames_of("inverted.webp"), expected_pixels(traversal(mean[0], 0, np.array([1, 2]))))


def test_all_latents_side_by_side_are_large_enough_to_see() -> None:
    run("traverse", "--frames", 2, "--out", "all.webp")
    tiles, gaps = 4 * 28 * 2, 5 * 2 * 2  # 64 pixels each are 2 for each of 28
    assert frames_of("all.webp")[0].shape[1:] == (tiles + gaps, tiles + gaps)


def test_traverse_of_all_latents_is_a_grid() -> None:
    options = ("--model", TINY, "--z", "0.5,-1,2", "--frames", 2, "--from", -3, "--to", 3, "--scale", 1)
    run("traverse", *options, "--out", "all.webp")
    first = frames_of("all.webp")[0]
    assert first.shape == (3, 2 + 2 * 7, 2 + 2 * 6)
    for dim, (top, left) in enumerate(((2, 2), (2, 8), (9, 2))):
        expected = expected_pixels(traversal(np.array([0.5, -1, 2]), dim, np.array([-3])))[0]
        np.testing.assert_array_equal(first[:, top : top + 5, left : left + 4], expected)


def test_a_caption_above_all_latents_names_each_of_them() -> None:
    z = [-1.0, 1.0, 0.1, 0.3, -0.2, 0.7, -0.5, -2.5]
    typed = ",".join(map(str, z))
    run("traverse", "--model", "notebook", "--z", typed, "--frames", 2, "--scale", 2, "--caption", "--out", "all.png")
    first, second = frames_of("all.png")
    cell, gap, above = 2 * 28, 2 * 2, 12 + 6  # pixels; the text is 12 high
    top, label = first.shape[1] - 3 * (above + cell + gap) - gap, {}
    assert top == 15 + 7  # for the value, in text 15 high
    assert (first[:, :top] != second[:, :top]).any()
    expected = vae_gen.load("notebook").decode_bytes(traversal(np.array(z), 7, np.array([-3, 3])))
    for dim in range(8):
        y, x = top + gap + dim // 3 * (above + cell + gap), gap + dim % 3 * (cell + gap)
        label[dim] = first[:, y : y + above, x : x + cell]
        assert label[dim].max() == 128  # the grey of the grid
        assert 0 < (label[dim] < 64).mean() < 0.1  # its number, in black
        np.testing.assert_array_equal(second[:, y : y + above, x : x + cell], label[dim])
        if dim == 7:
            tile = second[0, y + above : y + above + cell, x : x + cell]
            np.testing.assert_array_equal(tile, expected[1, 0].repeat(2, 0).repeat(2, 1))
    assert len({strip.tobytes() for strip in label.values()}) == 8


def test_no_seed_is_drawn_for_a_latent_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["traverse", "--dim", "16"]) == 2
    assert capsys.readouterr().err == "Error: dim is 16; the model has 16 latents, numbered 0 to 15\n"
