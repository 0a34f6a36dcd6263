"""vae-gen reconstruct as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from vae_gen.latents import draw

from tests.runs import TINY
from tests.runtime import reference
from tests.runtime.commands import expected_pixels, pixels, run, save_pictures

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_reconstruct_shows_inputs_over_reconstructions_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    save_pictures(draw(0, 0, 5, 3))
    inputs = expected_pixels(draw(0, 0, 5, 3))
    images = inputs / np.float32(255)
    outputs = reference.decode(reference.encode(images)[0])
    errors = ((outputs - images) ** 2).sum((1, 2, 3))

    run("reconstruct", "pictures", "--model", TINY, "--scale", 1, "--columns", 2, "--show", 3, "--threads", 1)
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [float(line.split()[0]) for line in lines[:3]] == pytest.approx(errors[:3], abs=1e-3)
    assert lines[2].endswith(str(Path("pictures/2.png")))
    assert "2 more; --json lists them all" in lines[3]
    assert float(lines[4].split()[0]) == pytest.approx(errors.mean(), abs=1e-3)
    assert captured.err == "3 of 5 pictures in reconstruct.png\n"

    sheet = pixels("reconstruct.png")
    assert sheet.shape == (3, 2 + 4 * 7, 2 + 2 * 6)
    np.testing.assert_array_equal(sheet[:, 2:7, 8:12], inputs[1])
    np.testing.assert_array_equal(sheet[:, 9:14, 8:12], reference.round_half_up(outputs[1]))
    np.testing.assert_array_equal(sheet[:, 16:21, 2:6], inputs[2])


def test_reconstruct_json_has_every_picture(capsys: pytest.CaptureFixture[str]) -> None:
    save_pictures(draw(0, 0, 5, 3))
    images = 1 - expected_pixels(draw(0, 0, 5, 3)) / np.float32(255)
    errors = ((reference.decode(reference.encode(images)[0]) - images) ** 2).sum((1, 2, 3))
    options = ("--json", "--invert", "--show", 1, "--out", "deep/er/sheet.png", "--quiet")
    run("reconstruct", "pictures", "--model", TINY, *options)
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["mean_sse"] == pytest.approx(errors.mean(), rel=1e-5)
    assert [row["sse"] for row in found["pictures"]] == pytest.approx(errors, rel=1e-5)
    assert captured.err == ""
    assert Path("deep/er/sheet.png").is_file()


@pytest.mark.mnist
def test_the_shipped_model_reconstructs_mnist(mnist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("reconstruct", mnist / "t10k-images-idx3-ubyte.gz", "--json")
    found = json.loads(capsys.readouterr().out)
    assert len(found["pictures"]) == 10_000
    assert found["mean_sse"] < 6  # a blank picture has 101, the mean of all digits 53
