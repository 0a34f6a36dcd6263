"""The page of `vae-gen explore` in a headless Chromium: browse.mjs uses it, and these look at what it saw."""

from __future__ import annotations

import io
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from vae_gen.bundles import shipped
from vae_gen.data.pictures import load_pictures
from vae_gen.data.tones import Tones
from vae_gen.latents import draw
from vae_gen.manifest import DECODER
from vae_gen.model import load

from tests import npm
from tests.conftest import MODELS
from tests.runtime import reference
from tests.runtime.commands import expected_pixels
from tests.runtime.explore_page import rgba, serving

Report = dict[str, Any]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (11, 17, 3), np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def sites(alpha: Path) -> Iterator[dict[str, str]]:
    models = {
        "tiny": MODELS / "tiny",
        "bare": MODELS / "foreign/grey.onnx",
        "alpha": alpha / DECODER,
        "mnist": shipped()["mnist"],
    }
    with ExitStack() as stack:
        yield {name: stack.enter_context(serving(path, given=name)).server.url for name, path in models.items()}


@pytest.fixture(scope="module")
def report(sites: dict[str, str], picture: Path) -> Report:
    executable = npm.browser()
    if executable is None or npm.node() is None:
        pytest.skip("Chromium or Node.js is not installed")
    npm.install(HERE.parent)
    request = json.dumps({"browser": executable, "sites": sites, "picture": str(picture)})
    program = ["node", HERE / "browse.mjs"]
    ran = subprocess.run(program, input=request, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    said: Report = json.loads(ran.stdout)
    return said


def pixels(seen: Report) -> npt.NDArray[np.uint8]:
    """[height, width, 4]."""
    return np.array(seen["pixels"], np.uint8).reshape(seen["height"], seen["width"], 4)


def latents(seen: Report) -> list[float]:
    return [float(value) for value in seen["hash"].removeprefix("#z=").split(",")]


def check_picture(seen: Report, z: npt.ArrayLike) -> None:
    """Fail unless the page shows tiny's picture of z, and z."""
    values = np.asarray(z, np.float64)
    np.testing.assert_array_equal(pixels(seen), rgba(expected_pixels(values[None])[0]))
    assert seen["numbers"] == [f"{round(value, 2) + 0.0:.2f}".replace("-", "\u2212") for value in values]  # no "-0.00"
    assert [float(value) for value in seen["sliders"]] == pytest.approx(values.clip(-3, 3), abs=0.026)
    assert seen["message"] == ""


def test_it_begins_with_the_first_picture_of_seed_0(report: Report) -> None:
    begin = report["tiny"]["begin"]
    check_picture(begin, draw(0, 0, 1, 3)[0])
    assert begin["drawn"] == ["0", "0"]
    assert begin["title"] == "tiny · vae-gen explore"
    assert begin["about"] == "3 latents · 4 \u00d7 5 pixels · colour · licence MIT"
    assert begin["kl"] == ["KL 2.00 nats", "KL 1.25 nats", "KL 0.50 nats"]
    assert begin["command"] == "vae-gen sample --model tiny --seed 0 --start 0 --out picture.png"
    assert {part for part, is_shown in begin["shown"].items() if is_shown} == {"main", "#choose", "#order"}


@pytest.mark.parametrize("name", ["begin", "typed"])
def test_strips_show_what_each_latent_would_do_and_where_it_is(report: Report, name: str) -> None:
    seen = report["tiny"][name]
    z = draw(0, 0, 1, 3)[0] if name == "begin" else np.array(latents(seen))
    for dim, strip in enumerate(map(pixels, seen["strips"])):
        points = np.tile(z, (7, 1))
        points[:, dim] = range(-3, 4)
        cells = [rgba(image) for image in expected_pixels(points)]
        free = [cell for cell in range(7) if abs(cell - 3 - z[dim]) > 1.3]  # the frame is not before these
        assert len(free) > 3
        for cell in free:
            np.testing.assert_array_equal(strip[:, 4 * cell : 4 * cell + 4], cells[cell])
        middle = round(4 * (z[dim] + 3)) + 2
        near = abs(strip[2, middle - 1 : middle + 1].astype(int) - pixels(seen)[2, 1:3])
        assert near.max() < 128  # of four columns drawn between others


def test_sliders_strips_and_numbers_all_move_the_picture(report: Report) -> None:
    steps = report["tiny"]
    left = latents(steps["dragged"])[0]  # by the mouse, so as near as it goes
    assert left == pytest.approx(-2, abs=0.1)
    expected = {
        "zero": [0, 0, 0],
        "clicked": [0, 2, 0],
        "dragged": [left, 2, 0],
        "typed": [left, 2, -1.23456],
        "nonsense": [left, 2, -1.23456],
        "beyond": [left, 2, 4.5],
        "reloaded": [left, 2, 4.5],
        "key": [left, 2, 0],
        "arrows": [left, 2, 0.1],
        "back": [left, 2, 0],  # all that one latent did, one after the other, is one step
        "forward": [left, 2, 0.1],
        "doubleClicked": [left, 0, 0.1],
    }
    for name, z in expected.items():
        assert latents(steps[name]) == pytest.approx(z), name
        check_picture(steps[name], z)


def test_the_picture_follows_to_its_last_place(report: Report) -> None:
    fast = report["tiny"]["fast"]
    (seed,) = re.findall(r"seed=(\d+)", report["tiny"]["random"]["hash"])
    z = draw(int(seed), 0, 1, 3)[0]
    check_picture(fast, [z[0], 0.5, z[2]])
    assert report["tiny"]["copied"] == fast["command"]
    (typed,) = re.fullmatch(r'vae-gen decode --model tiny --z "(\S+)" --out picture\.png', fast["command"]).groups()
    np.testing.assert_array_equal(np.array(typed.split(","), np.float32), np.array([z[0], 0.5, z[2]], np.float32))
    saved = report["tiny"]["saved"]
    assert saved["name"] == "tiny.png"
    with Image.open(io.BytesIO(bytes(saved["content"]))) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels(fast)[..., :3])


def test_pictures_of_seeds_are_samples(report: Report) -> None:
    steps = report["tiny"]
    for name in ("drawn", "reloadedDraw"):
        assert steps[name]["hash"] == "#seed=5&index=7"
        assert steps[name]["drawn"] == ["7", "5"]
        assert steps[name]["command"] == "vae-gen sample --model tiny --seed 5 --start 7 --out picture.png"
        check_picture(steps[name], draw(5, 7, 1, 3)[0])
    index, seed = steps["random"]["drawn"]
    assert (steps["random"]["hash"], index) == (f"#seed={seed}&index=0", "0")
    check_picture(steps["random"], draw(int(seed), 0, 1, 3)[0])
    assert steps["badSeed"]["message"] == "seed is 'x'; it must be a whole number"
    assert steps["badSeed"]["hash"] == steps["random"]["hash"]


@pytest.mark.parametrize(("name", "invert"), [("given", False), ("swapped", True), ("droppedToo", False)])
def test_a_picture_is_shown_beside_its_reconstruction(report: Report, picture: Path, name: str, invert: bool) -> None:
    seen = report["tiny"][name]
    images = load_pictures([picture], (3, 5, 4), Tones(invert)).images
    mean, _ = reference.encode(images)
    assert latents(seen) == pytest.approx(mean[0], abs=1e-5)
    error = ((reference.decode(mean) - images) ** 2).sum()
    assert float(seen["error"]) == pytest.approx(error, rel=1e-3)
    assert (seen["shown"]["#input"], seen["shown"]["#swap"], seen["message"]) == (True, True, "")
    if name == "given":
        np.testing.assert_array_equal(pixels(report["tiny"]["input"]), rgba(reference.round_half_up(images)[0]))


def test_the_error_follows_the_sliders_and_goes_with_the_picture(report: Report, picture: Path) -> None:
    steps = report["tiny"]
    images = load_pictures([picture], (3, 5, 4), Tones(invert=True)).images
    z = latents(steps["moved"])
    assert z == pytest.approx([-3, *latents(steps["swapped"])[1:]])
    error = ((reference.decode(np.array([z])) - images) ** 2).sum()
    assert float(steps["moved"]["error"]) == pytest.approx(error, rel=1e-3)
    assert not steps["left"]["shown"]["#input"]


def test_what_is_wrong_is_said_and_the_page_goes_on(report: Report) -> None:
    steps = report["tiny"]
    assert steps["refused"]["message"] == "notes.txt: it is not in a picture format that Pillow can read"
    assert latents(steps["refused"]) == latents(steps["moved"])
    assert (steps["refused"]["swap"], steps["droppedToo"]["swap"]) == (True, False)
    assert "The server does not answer." in steps["offline"]["message"]
    seed = int(steps["online"]["drawn"][1])
    check_picture(steps["online"], draw(seed, 0, 1, 3)[0])
    wrong = {"#z=1,2": "takes 3 numbers", "#z=1,2,x": "takes 3 numbers", "#seed=-1": "seed is -1; it must"}
    for address, words in wrong.items():
        assert words in report["addresses"][address]["message"]


def test_a_page_of_another_model_begins_anew(report: Report) -> None:
    steps = report["tiny"]
    assert "isOld" not in steps  # undefined, which JSON has not
    assert steps["anotherModel"]["hash"] == steps["online"]["hash"]


def test_a_decoder_alone_takes_no_pictures(report: Report) -> None:
    bare = report["bare"]
    assert (bare["shown"]["#choose"], bare["shown"]["#order"]) == (False, False)
    assert bare["kl"] == ["", "", ""]
    z = draw(0, 0, 1, 3)
    expected = rgba(load(MODELS / "foreign/grey.onnx").decode_bytes(z)[0])
    np.testing.assert_array_equal(pixels(bare), expected)
    assert report["bareDropped"]["message"] == "grey is a decoder alone: it makes pictures, and takes none."


def test_alpha_is_shown(report: Report, alpha: Path) -> None:
    """A canvas keeps colours times alpha, so those are known to half a level of that."""
    found = pixels(report["alpha"]).astype(float)
    expected = rgba(load(alpha / DECODER).decode_bytes(draw(0, 0, 1, 3))[0]).astype(float)
    np.testing.assert_array_equal(found[..., 3], expected[..., 3])
    assert 0 < expected[..., 3].min() < expected[..., 3].max() < 255
    assert (np.abs(found - expected)[..., :3] <= 127.5 / expected[..., 3:] + 1).all()


def test_latents_are_ordered_by_kl_when_asked(report: Report) -> None:
    kl = load("mnist").description.latent_kl
    assert report["mnist"]["labels"] == [f"z{dim}" for dim in range(16)]
    assert report["byKl"]["labels"] == [f"z{dim}" for dim in np.argsort(kl)[::-1]]


def test_pixels_are_squares_and_the_page_is_no_wider_than_the_window(report: Report) -> None:
    assert len(report["layouts"]) == 4 * 4
    for name, seen in report["layouts"].items():
        assert seen["inside"], name
        assert seen["overflow"] <= 0, name
        assert seen["horizontal"] == pytest.approx(seen["vertical"]), name
        assert seen["horizontal"] == round(seen["horizontal"]) > 1, name


def test_nothing_else_is_asked_or_said(report: Report, sites: dict[str, str]) -> None:
    assert {f"http://{host}/" for host in report["hosts"]} == set(sites.values())
    assert report["complaints"] == []
    # A browser says itself that a request was refused.
    assert [text for text in report["said"] if "Failed to load resource" not in text] == []
