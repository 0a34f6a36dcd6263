"""Pictures far from what a model knows: when commands say so, and when they do not."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vae_gen
from PIL import Image
from vae_gen.bundles import shipped
from vae_gen.evaluation.familiarity import Familiarity, familiarity, usual_error
from vae_gen.idx import read_idx_file
from vae_gen.manifest import Manifest

from tests.runtime.commands import run

pytestmark = pytest.mark.usefixtures("elsewhere")

MESSAGE = "the model does not know such pictures"
OF_MNIST = json.loads((shipped()["mnist"] / "manifest.json").read_text("utf-8"))
USUAL = OF_MNIST["metrics"]["evaluate"]["reconstruction"]["sse"]


def photographs(count: int) -> np.ndarray:
    """Noise with the spectrum of natural images, whose power falls with the square of the frequency: [n, 1, 28, 28].

    Field 1987, "Relations between the statistics of natural images and the response properties of cortical cells".
    """
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(28), np.fft.fftfreq(28)))
    frequency[0, 0] = np.inf
    white = np.fft.fft2(np.random.default_rng(0).normal(size=(count, 1, 28, 28)))
    waves = np.fft.ifft2(white / frequency).real
    return np.clip(0.5 + 0.2 * waves / waves.std(axis=(2, 3), keepdims=True), 0, 1).astype(np.float32)


@pytest.mark.parametrize("command", ["encode", "reconstruct", "interpolate 3", "traverse --picture"])
def test_pictures_of_something_else_are_told_of_with_their_error(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.uint8(photographs(1)[0, 0] * 255)).save("photo.png")
    run(*command.split(), "photo.png")
    said = capsys.readouterr().err
    assert said.count(MESSAGE) == 1
    assert "swapped" not in said
    ((error, usual),) = re.findall(r"errors of its reconstructions is ([0-9.]+), and ([0-9.]+) is usual; ", said)
    assert float(usual) == pytest.approx(USUAL, abs=0.001)
    run("reconstruct", "photo.png")
    assert f"{float(error):10.3f}  photo.png\n" in capsys.readouterr().out
    run(*command.split(), "photo.png", "--quiet")
    assert capsys.readouterr().err == ""


def test_of_many_pictures_some_are_tried(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("photos.npy", photographs(100)[:, 0])
    run("reconstruct", "photos.npy")
    assert "reconstructions (of 15 of the 100) is " in capsys.readouterr().err


def test_some_of_all_the_folder_are_tried(capsys: pytest.CaptureFixture[str]) -> None:
    digits = vae_gen.load("mnist").sample(100, seed=1)
    np.save("mixed.npy", np.concatenate([digits, photographs(100)])[:, 0])
    run("reconstruct", "mixed.npy")
    assert MESSAGE in capsys.readouterr().err


def test_bright_pictures_of_something_else_are_not_known_inverted_either(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("bright.npy", np.clip(photographs(16) + 0.25, 0, 1)[:, 0])
    run("encode", "bright.npy")
    said = capsys.readouterr().err
    assert MESSAGE in said
    assert f"with black and white swapped: try --invert), and {USUAL:.3f} is usual" in said
    assert "the model knows such pictures" not in said


@pytest.mark.parametrize("name", ["mnist", "notebook"])
def test_what_the_model_makes_itself_and_black_is_known(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    images = vae_gen.load(name).sample(50, seed=1)
    for known in (images, images[:1], images[7:10], np.zeros_like(images[:1])):
        np.save("images.npy", known)
        run("encode", "images.npy", "--model", name)
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["mnist", "notebook"])
@pytest.mark.parametrize("factor", [0, 0.5, 1], ids=["black", "grey", "white"])
def test_plain_pictures_are_known_where_they_are_reconstructed(name: str, factor: float) -> None:
    network = vae_gen.load(name)
    plain = np.full((1, 1, 28, 28), factor, np.float32)
    found = familiarity(plain, network)
    mean, _ = network.encode(plain)
    error = float(((network.decode(mean) - plain) ** 2).sum())
    assert found.error == pytest.approx(error, rel=1e-5)
    assert found.is_far == (error > 10 * found.usual)


@pytest.mark.mnist
@pytest.mark.parametrize("name", ["mnist", "notebook"])
def test_images_of_the_test_set_are_known_alone_a_few_at_a_time_and_all(name: str, mnist: Path) -> None:
    network = vae_gen.load(name)
    images = read_idx_file(mnist / "t10k-images-idx3-ubyte.gz", 3)[:, None].astype(np.float32) / 255
    labels = read_idx_file(mnist / "t10k-labels-idx1-ubyte.gz", 1)
    errors = ((network.decode(network.encode(images)[0]) - images) ** 2).sum(axis=(1, 2, 3))
    hardest = np.argsort(errors)[::-1]
    classes = [images[labels == digit] for digit in range(10)]
    sets = [images, images[hardest[:1]], images[hardest[:100:50]], images[hardest[::625]]]
    sets += [each[:count] for each in classes for count in (1, 2, 3, 5, 16, None)]
    sets += [images[start : start + 5] for start in range(0, 500, 5)]
    found = [familiarity(each, network) for each in sets]
    assert not any(each.is_far or each.better_inverted for each in found)
    assert errors.mean() == pytest.approx(found[0].usual, rel=1e-3)


def manifest_with(metrics: dict[str, Any]) -> Manifest:
    return replace(Manifest.read(shipped()["mnist"]), metrics=metrics)


@pytest.mark.parametrize(
    ("metrics", "usual"),
    [
        ({}, None),
        ({"test": {"sse": 6.5}, "validation": {"sse": 6.0}}, 6.5),
        ({"validation": {"sse": 6}}, 6.0),
        ({"validation": {"sse": 6.0}, "evaluate": {"reconstruction": {"sse": 5.5}}}, 6.0),
        (
            {"test": {"sse": 6.5}, "evaluate": {"reconstruction": {"sse": 5.5}, "measured_on": {"same_data": True}}},
            5.5,
        ),
        ({"evaluate": {"reconstruction": {"sse": 5.5}, "measured_on": {"same_data": False}}}, None),
        ({"test": {"step": 3, "reconstruction": 20.0}}, None),
        ({"test": 6.5, "validation": {"sse": "6"}, "evaluate": []}, None),
        ({"test": {"sse": -1.0}, "validation": {"sse": True}}, None),
    ],
)
def test_the_usual_error_is_of_the_data_that_the_model_was_trained_on(
    metrics: dict[str, Any], usual: float | None
) -> None:
    assert usual_error(manifest_with(metrics)) == usual


def test_a_model_that_nobody_measured_is_silent(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 3, 5, 4), np.uint8)
    np.save("noise.npy", noise)
    run("encode", "noise.npy", "--model", tiny)
    assert capsys.readouterr().err == ""
    shutil.copytree(tiny, "measured")
    Manifest.read(tiny).record(Path("measured"), validation={"sse": 0.5})
    run("encode", "noise.npy", "--model", "measured")
    assert MESSAGE in capsys.readouterr().err


def test_an_error_of_nothing_but_rounding_is_never_far(tiny: Path) -> None:
    """The usual one is at least that of 60 values rounded to 8 bits, 60 / (12 * 255^2)."""
    shutil.copytree(tiny, "perfect")
    Manifest.read(tiny).record(Path("perfect"), test={"sse": 0.0})
    found = familiarity(np.zeros((1, 3, 5, 4), np.float32), vae_gen.load("./perfect"))
    assert found.usual == pytest.approx(60 / 780300)


@pytest.mark.parametrize(("tried", "times"), [(1, 10), (2, 7), (3, 6), (6, 5), (16, 4.375)])
def test_of_more_pictures_less_is_too_much(tried: int, times: float) -> None:
    below, above = (Familiarity(tried, tried, times * usual, 1e9, 2.0).is_far for usual in (1.99, 2.01))
    assert (below, above) == (False, True)


@pytest.mark.parametrize(("error", "usual", "better"), [(1.9, 2.0, False), (2.1, 2.0, True), (1.9, None, True)])
def test_what_is_reconstructed_as_well_as_usual_needs_no_swapping(
    error: float, usual: float | None, better: bool
) -> None:
    assert Familiarity(1, 1, error, error / 3, usual).better_inverted == better
