"""vae-gen encode as a user types it."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from vae_gen.defaults import FORMATS
from vae_gen.latents import draw

from tests.runs import TINY
from tests.runtime import reference
from tests.runtime.commands import expected_pixels, run, save_pictures, stream_of

pytestmark = pytest.mark.usefixtures("elsewhere")

PICTURES = [str(Path("pictures", f"{number}.png")) for number in range(3)]


def test_encode_prints_csv_that_decode_reads(capsys: pytest.CaptureFixture[str]) -> None:
    z = draw(0, 0, 3, 3)
    save_pictures(z)
    run("encode", "pictures", "--model", TINY)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0]) == ["picture", "mean_0", "mean_1", "mean_2", "log_var_0", "log_var_1", "log_var_2"]
    assert [row["picture"] for row in rows] == PICTURES
    mean, log_var = reference.encode(expected_pixels(z) / np.float32(255))
    for name, expected in (("mean", mean), ("log_var", log_var)):
        found = [[float(row[f"{name}_{dim}"]) for dim in range(3)] for row in rows]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    run("encode", "pictures", "--model", TINY, "--out", "z.csv")
    run("decode", "--model", TINY, "--z", "z.csv", "--out", "again.npy")
    np.testing.assert_array_equal(np.load("again.npy"), expected_pixels(mean))


@pytest.mark.skipif(sys.platform == "win32", reason="names have no line ends there")
def test_names_with_line_ends_can_be_read_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = ["\r", "\n", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", '"', ",", "'", " ", "\t"]
    names = [f"{number:02}{end}mean_0.png" for number, end in enumerate(ends)] + ["98\r.png", "99\r"]
    z = draw(0, 0, len(names), 3)
    save_pictures(z)
    for number, name in enumerate(names):
        Path(f"pictures/{number}.png").rename(name)
    run("encode", *names, "--model", TINY, "--out", "z.csv", "--quiet")
    run("encode", *names, "--model", TINY, "--quiet")
    printed = capsys.readouterr().out
    assert printed.encode() == Path("z.csv").read_bytes()
    assert printed.partition("\n")[0] == "picture,mean_0,mean_1,mean_2,log_var_0,log_var_1,log_var_2"
    assert [row["picture"] for row in csv.DictReader(io.StringIO(printed, newline=""))] == names
    expected = expected_pixels(reference.encode(expected_pixels(z) / np.float32(255))[0])
    monkeypatch.setattr("sys.stdin", stream_of(printed))
    for source in ("z.csv", "-"):
        run("decode", "--model", TINY, "--z", source, "--out", "again.npy", "--overwrite", "--quiet")
        np.testing.assert_array_equal(np.load("again.npy"), expected)


def test_encode_writes_files_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    z = draw(0, 0, 3, 3)
    save_pictures(z)
    images = expected_pixels(z) / np.float32(255)
    run("encode", "pictures", "--model", TINY, "--out", "z.npz", "--threads", 1, "--json")
    captured = capsys.readouterr()
    mean, log_var = reference.encode(images)
    with np.load("z.npz") as both:
        np.testing.assert_allclose(both["mean"], mean, atol=1e-6)
        np.testing.assert_allclose(both["log_var"], log_var, atol=1e-6)
    rows = json.loads(captured.out)
    assert [row["picture"] for row in rows] == PICTURES
    np.testing.assert_allclose([row["log_var"] for row in rows], log_var, atol=1e-6)
    assert captured.err == "latents of 3 pictures in z.npz\n"
    run("encode", "pictures", "--model", TINY, "--invert", "--out", "inverted.npy", "--quiet")
    np.testing.assert_allclose(np.load("inverted.npy"), reference.encode(1 - images)[0], atol=1e-6)


def test_what_cannot_be_read_is_left_out_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    save_pictures(draw(0, 0, 3, 3))
    Path("pictures/1.png").write_bytes(Path("pictures/1.png").read_bytes()[:60])
    Path("pictures/2.png").rename("pictures/no suffix")
    Path("pictures/LICENSE").write_text("no picture")
    for command in ("encode", "reconstruct"):
        run(command, "pictures", "--model", TINY, status=1)
        refused = capsys.readouterr().err
        assert refused.startswith(f"Error: found 1 file that cannot be read:\n  cannot read {PICTURES[1]} as a picture")
        assert refused.endswith("\nRepair or remove them, or leave them out with --skip-bad\n")
        run(command, "pictures", "--model", TINY, "--skip-bad", "--json")
        captured = capsys.readouterr()
        rows = json.loads(captured.out)
        found = [row["picture"] for row in (rows if command == "encode" else rows["pictures"])]
        assert found == [PICTURES[0], str(Path("pictures/no suffix"))]
        assert captured.err.startswith(
            f"left out 1 file that cannot be read:\n  cannot read {PICTURES[1]} as a picture"
        )
    run("encode", "pictures/1.png", "--model", TINY, "--skip-bad", status=1)
    assert capsys.readouterr().err.startswith(f"Error: cannot read {PICTURES[1]} as a picture")
    Path("pictures/0.png").write_text("no picture either")
    run("encode", "pictures/0.png", "pictures/1.png", "--model", TINY, status=1)
    assert capsys.readouterr().err.startswith("Error: there is no picture that can be read: 2 files")


@pytest.mark.parametrize("format", FORMATS)
def test_encode_reads_what_sample_writes(
    format: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vae_gen.generator.parts.IMAGES_PER_FOLDER", 4)
    size = [] if format == "png" else ["--shard-size", 4]
    what = ("sample", "--model", TINY, "--n", 10, "--seed", 3, "--latents", "-q", "--format", format)
    run(*what, *size, "--out", "digits")
    if format != "png":
        run(*what, "--out", f"digits.{format}")
    mean, _ = reference.encode(expected_pixels(draw(3, 0, 10, 3)) / np.float32(255))
    for place in ("digits", *([] if format == "png" else [f"digits.{format}"])):
        run("encode", place, "--model", TINY, "--json")
        rows = json.loads(capsys.readouterr().out)
        np.testing.assert_allclose([row["mean"] for row in rows], mean, atol=1e-5)
        names = [row["picture"] for row in rows]
        if format == "png":
            assert names == [str(Path(f"digits/{index // 4:05d}/{index:09d}.png")) for index in range(10)]
        elif place != "digits" and format in ("tar", "zip"):
            assert names == [f"{place}/{index:09d}.png" for index in range(10)]
        elif place != "digits":
            assert names == [f"{place}[{index}]" for index in range(10)]
