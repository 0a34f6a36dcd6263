"""vae-gen sample as a user types it; test_sample.py has its formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from vae_gen.cli import main
from vae_gen.latents import draw

from tests.runs import TINY
from tests.runtime.commands import expected_pixels, pixels, run

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_sample_writes_the_decoded_draws(capsys: pytest.CaptureFixture[str]) -> None:
    run("sample", "--model", TINY, "--n", 5, "--seed", 3, "--out", "out")
    names = sorted(path.name for path in Path("out").glob("*.png"))
    assert names == [f"{index:09d}.png" for index in range(5)]
    for name, image in zip(names, expected_pixels(draw(3, 0, 5, 3)), strict=True):
        np.testing.assert_array_equal(pixels(f"out/{name}"), image)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "5 images in out\n"


def test_the_same_seed_gives_the_same_bytes_whatever_the_batch_size() -> None:
    for number, size in enumerate((1, 7, 64, 100, 1024)):
        run("sample", "--model", TINY, "--n", 100, "--seed", 3, "--out", f"{number}.npy", "--batch-size", size)
        run("sample", "--n", 100, "--seed", 3, "--out", f"shipped{number}.npy", "--batch-size", size)
        assert Path(f"{number}.npy").read_bytes() == Path("0.npy").read_bytes()
        assert Path(f"shipped{number}.npy").read_bytes() == Path("shipped0.npy").read_bytes()
    np.testing.assert_array_equal(np.load("0.npy"), expected_pixels(draw(3, 0, 100, 3)))


def test_start_temperature_threads_and_format() -> None:
    run("sample", "--model", TINY, "--n", 2, "--seed", 3, "--start", 10, "--out", "a", "--threads", 1)
    assert sorted(path.name for path in Path("a").glob("*.png")) == ["000000010.png", "000000011.png"]
    np.testing.assert_array_equal(pixels("a/000000011.png"), expected_pixels(draw(3, 11, 1, 3))[0])
    run("sample", "--model", TINY, "--n", 2, "--seed", 3, "--temperature", 0.25, "--out", "b", "--format", "npy")
    np.testing.assert_array_equal(np.load("b/000000.npy"), expected_pixels(draw(3, 0, 2, 3) / 4))


def test_without_a_seed_a_fresh_one_is_shown_and_gives_the_images_again(capsys: pytest.CaptureFixture[str]) -> None:
    run("sample", "--model", TINY, "--n", 2, "--out", "a.npy")
    word, seed = capsys.readouterr().err.splitlines()[0].split()
    assert word == "seed"
    run("sample", "--model", TINY, "--n", 2, "--out", "b.npy", "--seed", seed)
    run("sample", "--model", TINY, "--n", 2, "--out", "c.npy")
    assert Path("a.npy").read_bytes() == Path("b.npy").read_bytes() != Path("c.npy").read_bytes()


@pytest.mark.parametrize("command", ["sample", "traverse"])
def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str], command: str) -> None:
    run(command, "--model", TINY, "--quiet")
    assert capsys.readouterr() == ("", "")


def test_sample_overwrites_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sample", "--model", TINY, "--n", "1", "--out", "out"]
    run(*arguments, "--seed", 1)
    before = Path("out/000000000.png").read_bytes()
    assert main([*arguments, "--seed", "2"]) == 1
    message = "out already holds another run: seed is 1 there and 2 here; choose another --out, or give --overwrite"
    assert message in capsys.readouterr().err
    assert Path("out/000000000.png").read_bytes() == before
    Path("out/notes.txt").write_text("kept")
    run(*arguments, "--seed", 2, "--overwrite")
    assert Path("out/000000000.png").read_bytes() != before
    assert sorted(path.name for path in Path("out").iterdir()) == ["000000000.png", "manifest.json", "notes.txt"]
