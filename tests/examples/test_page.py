"""examples/web in a headless Chromium: browse.mjs uses it, and these look at what it saw."""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from vae_gen.images import to_uint8
from vae_gen.model import load

from tests.conftest import MODELS
from tests.examples.conftest import ALPHA, BUNDLES, ROOT, Case, install
from tests.npm import browser

WEB = ROOT / "examples/web"
BROKEN = ("no-decoder", "swapped", "text", "newer", "damaged")
Report = dict[str, Any]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders to serve: the repository's, the models, and what can be wrong with them."""
    site = tmp_path_factory.mktemp("site")
    (site / "web").symlink_to(WEB)
    for name, case in cases.items():
        (site / name).symlink_to(case.bundle)
    for name in BROKEN:
        shutil.copytree(MODELS / "tiny", site / name)
    (site / "no-decoder/decoder.onnx").unlink()
    shutil.copy(cases["notebook"].bundle / "manifest.json", site / "swapped")
    (site / "text/manifest.json").write_text("tiny")
    (site / "newer/manifest.json").write_text('{"schema": 2}')
    (site / "damaged/decoder.onnx").write_bytes((MODELS / "tiny/decoder.onnx").read_bytes()[:300])
    (site / "bare").mkdir()
    for file in ("index.html", "explore.mjs"):
        shutil.copy(WEB / file, site / "bare")
    return site


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def report(server: str, cases: dict[str, Case]) -> Report:
    executable = browser()
    if executable is None:
        pytest.skip("Chromium is not installed")
    install(WEB)
    install(ROOT / "tests")
    page = f"{server}/web/"
    broken = {name: f"{page}?model=../{name}" for name in ("nowhere", *BROKEN)}
    broken |= {f"z={z}": f"{page}?model=../tiny#z={z}" for z in ("1,2", "1,2,x")}
    broken["bare"] = f"{server}/bare/"
    request = {
        "browser": executable,
        "page": page,
        "models": {name: {"model": f"../{name}", "z": case.z} for name, case in cases.items()},
        "broken": broken,
    }
    program = ["node", Path(__file__).parent / "browse.mjs"]
    ran = subprocess.run(program, input=json.dumps(request), capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    said: Report = json.loads(ran.stdout)
    return said


def pixels(seen: Report) -> npt.NDArray[np.uint8]:
    """[height, width, 4]: red, green, blue, alpha."""
    return np.array(seen["pixels"], np.uint8).reshape(seen["height"], seen["width"], 4)


def decoded(z: list[float]) -> npt.NDArray[np.uint8]:
    """The picture that tiny makes, as a canvas has it."""
    (image,) = to_uint8(load(MODELS / "tiny").decode(np.array([z], np.float32)))
    return np.concatenate([image, np.full((1, 5, 4), 255, np.uint8)]).transpose(1, 2, 0)


def latents(seen: Report) -> list[float]:
    return [float(value) for value in seen["hash"].removeprefix("#z=").split(",")]


@pytest.mark.parametrize("name", [name for name in BUNDLES if name != ALPHA])
def test_the_picture_is_the_command_lines(report: Report, name: str, cases: dict[str, Case]) -> None:
    expected = Image.open(cases[name].picture).convert("RGBA")
    np.testing.assert_array_equal(pixels(report["models"][name]), np.asarray(expected))


def test_alpha_is_the_command_lines(report: Report, cases: dict[str, Case]) -> None:
    """A canvas keeps colours times alpha, so those are known to half a level of that."""
    found = pixels(report["models"][ALPHA]).astype(float)
    expected = np.asarray(Image.open(cases[ALPHA].picture)).astype(float)
    alpha = expected[..., 3:]
    np.testing.assert_array_equal(found[..., 3:], alpha)
    assert 0 < alpha.min() < alpha.max() < 255
    assert (np.abs(found - expected)[..., :3] <= 127.5 / alpha + 1).all()


@pytest.mark.parametrize("name", BUNDLES)
def test_the_command_shown_makes_the_picture(report: Report, name: str, cases: dict[str, Case]) -> None:
    seen = report["models"][name]
    assert seen["title"] == name
    found = re.fullmatch(rf'vae-gen decode --model {name} --z "(\S+)" --out picture\.png', seen["command"])
    assert found
    assert [float(value) for value in found[1].split(",")] == [float(value) for value in cases[name].z.split(",")]


def test_sliders_have_names_ranges_and_values(report: Report) -> None:
    """Three of tiny's standard deviations (1, 3/2, 3/4) to each side of its means (0, 1/8, -1/4), a tenth outward."""
    first, second, third = report["keyboard"]["sliders"]
    assert first == {"min": "-3", "max": "3", "spoken": "0.05", "row": ["z0", "KL 2.00 nats", "0.05"]}
    assert second == {"min": "-4.4", "max": "4.7", "spoken": "4.70", "row": ["z1", "KL 1.25 nats", "4.70"]}
    assert third == {"min": "-2.5", "max": "2", "spoken": "0.00", "row": ["z2", "KL 0.50 nats", "0.00"]}


def test_all_can_be_done_with_keys(report: Report) -> None:
    keys = report["keyboard"]
    assert [keys[step]["focus"] for step in ("random", "zero", "right", "end")] == ["random", "zero", "z0", "z1"]
    assert len(set(latents(keys["random"]))) > 1
    assert [latents(keys[step]) for step in ("zero", "right", "end")] == [[0, 0, 0], [0.05, 0, 0], [0.05, 4.7, 0]]
    for step in ("random", "zero", "right", "end"):
        np.testing.assert_array_equal(pixels(keys[step]), decoded(latents(keys[step])))


def test_a_reload_keeps_the_picture(report: Report) -> None:
    assert report["keyboard"]["reloaded"]["hash"] == report["keyboard"]["end"]["hash"]
    np.testing.assert_array_equal(pixels(report["keyboard"]["reloaded"]), pixels(report["keyboard"]["end"]))


def test_the_picture_follows_a_slider_to_its_last_place(report: Report) -> None:
    np.testing.assert_array_equal(pixels(report["dragged"]), decoded([0.05, 0.5, 0]))


def test_pixels_are_squares_and_stay_in_view_at_every_width(report: Report) -> None:
    assert len(report["layouts"]) == 3 * len(BUNDLES)
    for name, seen in report["layouts"].items():
        assert seen["inside"], name
        assert seen["overflow"] <= 0, name
        assert seen["horizontal"] == seen["vertical"] == round(seen["horizontal"]) > 1, name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", r"\.\./nowhere/manifest\.json is not there: the server says 404"),
        ("no-decoder", r"\.\./no-decoder/decoder\.onnx is not there: the server says 404"),
        ("swapped", "it has 8 latents and images of 1 x 28 x 28, the graph 3 and 3 x 5 x 4"),
        ("text", "text/manifest.json is not JSON"),
        ("newer", "schema version 2; this page reads version 1"),
        ("damaged", "(?i)protobuf|load model"),
        ("z=1,2", "z=1,2; this model takes 3 numbers"),
        ("z=1,2,x", "z=1,2,x; this model takes 3 numbers"),
        ("bare", "Run npm ci"),
    ],
)
def test_what_is_wrong_is_said_on_the_page(report: Report, name: str, words: str) -> None:
    assert re.search(words, report["errors"][name]["message"]), report["errors"][name]["message"]
    assert report["errors"][name]["hidden"]


def test_nothing_else_is_asked_or_said(report: Report, server: str) -> None:
    assert report["hosts"] == [server.removeprefix("http://")]
    assert report["complaints"] == []
