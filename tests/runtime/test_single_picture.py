"""--out digit.png: one image as one PNG file of that name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vae_gen.cli import main
from vae_gen.containers import open_container
from vae_gen.errors import OutputError, UsageError
from vae_gen.latents import draw

from tests.runs import TINY, tree
from tests.runtime.commands import expected_pixels, pixels, run
from tests.runtime.container_files import Pipe
from tests.runtime.container_files import pixels as some_pixels
from tests.runtime.verification import change_a_pixel

pytestmark = pytest.mark.usefixtures("elsewhere")

Capture = pytest.CaptureFixture[str]


def sample(*arguments: object) -> None:
    run("sample", "--model", TINY, *arguments)


@pytest.mark.parametrize("name", ["digit.png", "below/DIGIT.PNG"])
def test_it_is_the_file_that_a_folder_would_hold(name: str, capsys: Capture) -> None:
    sample("--seed", 3, "--start", 11, "--out", name)
    assert capsys.readouterr().err == f"1 image in {name}\n"
    sample("--seed", 3, "--start", 11, "--n", 1, "--out", "folder")
    assert Path(name).read_bytes() == Path("folder/000000011.png").read_bytes()
    np.testing.assert_array_equal(pixels(name), expected_pixels(draw(3, 11, 1, 3))[0])
    with Image.open(name) as picture:
        assert (picture.text["Seed"], picture.text["Index"]) == ("3", "11")


def test_it_goes_down_a_pipe_too() -> None:
    sample("--seed", 3, "--out", "digit.png")
    options = ["--model", str(TINY), "--seed", "3", "--format", "png", "--out", "-"]
    piped = subprocess.run([sys.executable, "-m", "vae_gen", "sample", *options], check=True, capture_output=True)
    assert (piped.stdout, piped.stderr) == (Path("digit.png").read_bytes(), f"1 image in stdout{os.linesep}".encode())


def test_decode_writes_one_and_encode_reads_it(capsys: Capture) -> None:
    z = draw(3, 0, 1, 3)
    run("decode", "--model", TINY, "--z", ",".join(map(str, z[0])), "--out", "digit.png")
    np.testing.assert_array_equal(pixels("digit.png"), expected_pixels(z)[0])
    capsys.readouterr()
    run("encode", "--model", TINY, "digit.png")
    assert capsys.readouterr().out.splitlines()[1].startswith("digit.png,")


def test_what_stands_beside_it_is_named_after_it() -> None:
    sample("--seed", 3, "--out", "digit.png", "--latents", "--grid", "1x1")
    assert sorted(tree(Path())) == ["digit.grid.png", "digit.latents.npy", "digit.png", "digit.png.manifest.json"]
    np.testing.assert_array_equal(np.load("digit.latents.npy"), draw(3, 0, 1, 3))


def test_verify_finds_what_became_of_it(capsys: Capture) -> None:
    sample("--seed", 3, "--out", "digit.png")
    whole = tree(Path())
    run("verify", "digit.png")
    assert "1 image in 1 part: as the manifest says" in capsys.readouterr().err
    for damage, problem in [
        (change_a_pixel, "its pixels are not those of the manifest"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "digit.png holds a damaged picture, the only one"),
        (
            lambda path: path.write_bytes(b""),
            "digit.png holds a damaged picture, the only one: it does not begin as PNG",
        ),
        (lambda path: path.unlink(), "No such file"),
    ]:
        damage(Path("digit.png"))
        assert main(["verify", "digit.png"]) == 1
        captured = capsys.readouterr()
        assert problem in captured.out
        assert captured.err.endswith(f"--model {TINY} --seed 3 --n 1 --format png --out digit.png --overwrite\n")
        sample("--seed", 3, "--n", 1, "--format", "png", "--out", "digit.png", "--overwrite")
        assert tree(Path()) == whole


def test_another_picture_is_not_replaced_unless_asked(capsys: Capture) -> None:
    Image.new("L", (3, 3)).save("mine.png")
    before = Path("mine.png").read_bytes()
    assert main(["sample", "--model", str(TINY), "--out", "mine.png"]) == 1
    assert "mine.png" in capsys.readouterr().err
    assert tree(Path()) == {"mine.png": before}
    sample("--seed", 3, "--out", "mine.png", "--overwrite")
    sample("--seed", 3, "--out", "mine.png", "--resume")  # it is there
    assert main(["sample", "--model", str(TINY), "--seed", "4", "--out", "mine.png", "--resume"]) == 1
    assert "seed is 3 there and 4 here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["sample", "--n", "2", "--out", "digits.png"],
        ["sample", "--indices", "3,5", "--seed", "1", "--out", "digits.png"],
        ["sample", "--n", "2", "--out", "-", "--format", "png"],
        ["decode", "--z", "two.csv", "--out", "digits.png"],
    ],
    ids=lambda command: " ".join(command[:3]),
)
def test_it_holds_no_two(command: list[str], capsys: Capture) -> None:
    Path("two.csv").write_text("1,2,3\n4,5,6\n")
    assert main([*command, "--model", str(TINY)]) == 2
    assert capsys.readouterr().err == (
        "Error: a PNG file holds one image, not 2; give the name of a folder, or a file that ends in .npy, .npz, .tar, "
        ".zip, .idx\n"
    )
    assert list(tree(Path())) == ["two.csv"]


@pytest.mark.parametrize("suffix", ["jpg", "gif", "tiff"])
def test_pictures_of_other_kinds_are_not_written(suffix: str, capsys: Capture) -> None:
    assert main(["sample", "--model", str(TINY), "--n", "1", "--out", f"digit.{suffix}"]) == 2
    assert (
        f"digit.{suffix} names a picture of a kind that is not written: images are PNG files" in capsys.readouterr().err
    )


def test_the_container_takes_as_many_images_as_it_said() -> None:
    with pytest.raises(UsageError, match="a PNG file holds one image, not 2"):
        open_container("png", Pipe(), 2, (1, 5, 4))
    container = open_container("png", Pipe(), 1, (1, 5, 4))
    with pytest.raises(OutputError, match="was to hold 1 images and got 0"):
        container.close()
    container.write(some_pixels(1, (1, 5, 4)), [0])
    container.close()
