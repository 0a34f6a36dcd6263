"""Pictures the wrong way round: when commands suggest --invert."""

from __future__ import annotations

import numpy as np
import pytest
import vae_gen
from PIL import Image

from tests.runtime.commands import run

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.parametrize("command", ["encode", "reconstruct", "traverse --frames 2 --picture"])
@pytest.mark.parametrize("colours", ["light on black", "dark on white", "grey on paper"])
def test_pictures_the_wrong_way_round_get_a_hint(
    command: str, colours: str, capsys: pytest.CaptureFixture[str]
) -> None:
    digit = vae_gen.load("mnist").sample(1, seed=1)[0, 0]
    if colours == "dark on white":
        digit = 1 - digit
    elif colours == "grey on paper":
        digit = np.linspace(0.8, 1, 28) - 0.7 * digit + np.random.default_rng(0).normal(0, 0.03, (28, 28))
    Image.fromarray(np.uint8(np.clip(digit, 0, 1) * 255)).save("digit.png")
    hint = "the model reconstructs such pictures far better with black and white swapped"
    run(*command.split(), "digit.png")
    assert (f"{hint}: try --invert\n" in capsys.readouterr().err) == (colours != "light on black")
    run(*command.split(), "digit.png", "--invert")
    assert (f"{hint}: leave out --invert\n" in capsys.readouterr().err) == (colours == "light on black")
    for each in ("--invert", None):
        run(*command.split(), "digit.png", "--quiet", *filter(None, [each]))
        assert capsys.readouterr().err == ""


def test_what_is_bad_either_way_gets_no_hint(capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    grey, slope = np.full((1, 28, 28), 128, np.uint8), np.tile(np.linspace(0, 255, 28), (1, 28, 1)).astype(np.uint8)
    for images in (noise, grey, slope):
        np.save("images.npy", images)
        run("reconstruct", "images.npy")
        assert "--invert" not in capsys.readouterr().err
