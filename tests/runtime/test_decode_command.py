"""vae-gen decode as a user types it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from vae_gen.cli import main
from vae_gen.errors import DataError
from vae_gen.latent_files import read_latents
from vae_gen.latents import draw
from vae_gen.stores import open_store

from tests.runs import TINY
from tests.runtime.commands import expected_pixels, pixels, run
from tests.systems import needs_links

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_decode_takes_typed_numbers_files_and_overwrite() -> None:
    run("decode", "--model", TINY, "--z", "-1,0.5,2", "--out", "out")
    np.testing.assert_array_equal(pixels("out/000000000.png"), expected_pixels(np.array([[-1, 0.5, 2]]))[0])
    z = draw(0, 0, 9, 3)
    np.save("z.npy", z)
    run("decode", "--model", TINY, "--z", "z.npy", "--out", "a.npy", "--batch-size", 2, "--threads", 1)
    np.testing.assert_array_equal(np.load("a.npy"), expected_pixels(z))
    run("decode", "--model", TINY, "--z", "0,0,0", "--out", "a.npy", "--overwrite", "--quiet")
    assert len(np.load("a.npy")) == 1


def test_latents_are_read_as_numpy_writes_them() -> None:
    z = np.array([[0.25, -1.5, 2.0], [1.0, 0.5, -0.125]], np.float32)
    np.savetxt("z.txt", z)
    np.savetxt("tabs.tsv", z, delimiter="\t")
    np.save("z.npy", z)
    np.save("one.npy", z[1])
    for name in ("z.txt", "tabs.tsv"):
        assert np.array_equal(read_latents(name, sys.stdin, 3), z)
    for one in ("one.npy", "1 0.5 -0.125", "1,0.5,-0.125"):
        assert np.array_equal(read_latents(one, sys.stdin, 3), z[1:])
    with pytest.raises(DataError, match=r"line 1 of z.txt is not 4 numbers between commas: there are 3"):
        read_latents("z.txt", sys.stdin, 4)
    with pytest.raises(DataError, match=r"of shape \[3\]"):
        read_latents("one.npy", sys.stdin, 4)


def test_decode_is_alone_in_its_place_and_clears_what_a_killed_one_left(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("decode", "--model", TINY, "--z", "-1,0.5,2", "-q")
    Path("out/.images.1-2.partial").mkdir(parents=True)
    for name in (".a.npy.1-2.partial", ".b.npy.1-2.partial"):
        Path(name).touch()
    with open_store("out").lock("manifest.json"):
        assert main([*arguments, "--out", "out"]) == 1
    assert f"another process is at work on {Path('out/manifest.json')}" in capsys.readouterr().err
    run(*arguments, "--out", "out")
    run(*arguments, "--out", "a.npy")
    assert sorted(path.name for path in Path("out").iterdir()) == ["000000000.png", "manifest.json"]
    assert sorted(path.name for path in Path().iterdir()) == [
        ".b.npy.1-2.partial",
        "a.npy",
        "a.npy.manifest.json",
        "out",
    ]
    for out in ("out", "a.npy"):
        assert main([*arguments, "--out", out]) == 1
        message = f"Error: {out} already holds something; choose another --out, or give --overwrite\n"
        assert capsys.readouterr().err == message


def test_what_is_there_stays_if_there_is_nothing_to_put_in_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    run("decode", "--z", ",".join(["0"] * 16), "--out", "out")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    largest = ",".join(["3e38", "-3e38"] * 8)  # with which sums in the network overflow
    assert main(["decode", "--z", largest, "--out", "out", "--overwrite"]) == 1
    assert "makes values that are not finite" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


@needs_links
def test_a_link_to_itself_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("z.npy", np.zeros((1, 3), np.float32))
    Path("loop.npy").symlink_to("loop.npy")
    assert main(["decode", "--model", str(TINY), "--z", "z.npy", "--out", "loop.npy", "--overwrite"]) == 1
    assert capsys.readouterr().err == "Error: cannot write loop.npy: it is a link that leads to itself\n"
    assert Path("loop.npy").is_symlink()
