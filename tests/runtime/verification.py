"""What tests of vae-gen verify share."""

from __future__ import annotations

import functools
import json
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from vae_gen.cli import main

from tests import runs

ARRAYS = ("npy", "npz", "idx")
CONTAINERS = (*ARRAYS, "tar", "zip")
FOLDERS = ("--indices", "0-20,9990-10010,20000-30009")  # 4 folders of PNG files: 31, 11, 10,000 and 10

sample = functools.partial(runs.sample, "--seed", 3)

Capture = pytest.CaptureFixture[str]


def check(out: str = "out", *options: str) -> dict[str, Any]:
    """Runs verify --json, and compares what it says with its exit status; returns the JSON."""
    with redirect_stdout(StringIO()) as printed, redirect_stderr(StringIO()) as errors:
        status = main(["verify", out, "--json", *options])
    report: dict[str, Any] = json.loads(printed.getvalue())
    assert status == (0 if report["good"] else 1)
    assert report["good"] == (report["problems"] == [])
    assert "Traceback" not in errors.getvalue()
    return report


def problems(report: dict[str, Any]) -> list[str]:
    return [f"{each['part']}: {each['problem']}" for each in report["problems"]]


def change_a_pixel(path: Path) -> None:
    with Image.open(path) as picture:
        pixels = np.asarray(picture).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)


def change_a_byte(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def mend(report: dict[str, Any]) -> None:
    """Do as verify advises."""
    assert main(["verify", report["out"], "--discard"]) == 1
    for line in report["commands"]:
        assert main([*line.split()[1:], "--quiet"]) == 0
