"""A run whose disk is full or read-only, that finds something in its way, or whose reader is gone."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from vae_gen.cli import CLOSED_PIPE, main
from vae_gen.containers import zip as zip_container

from tests.disks import disk_in_memory, remount
from tests.runs import TINY, VAE_GEN, sample, tree
from tests.runtime.slow_runs import RUNS, published

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    folder = tmp_path / "small"
    with disk_in_memory(folder, "400k"):
        yield folder


@pytest.mark.parametrize("format", RUNS)
def test_a_full_disk_is_named_and_what_is_complete_stays(
    format: str, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = () if format == "png" else ("--shard-size", 100)
    what = ("--n", 30_000, "--seed", 3, "--format", format, *parts)
    out = small_disk / "out"
    sample(*what, "--out", out, status=1)
    message = capsys.readouterr().err
    assert "No space left on device" in message
    assert str(out) in message
    assert "of 30,000 images are not made; the same command with --resume makes them" in message
    assert not list(small_disk.rglob("*.partial"))
    left = published(str(out))
    remount(small_disk, "size=200m")
    sample(*what, "--out", out, "--resume")
    sample(*what, "--out", "whole")
    assert tree(out) == tree("whole")
    assert left == {name: content for name, content in tree(out).items() if name in left}
    assert format == "png" or len(left) > 0


def test_a_read_only_folder_is_named(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    remount(small_disk, "ro")
    for out in ("", "new", "a.npy"):
        sample("--n", 3, "--out", small_disk / out, status=1)
        message = capsys.readouterr().err
        assert "Read-only file system" in message
        assert str(small_disk) in message


@pytest.mark.parametrize(
    ("in_the_way", "out"),
    [("out", "out"), ("out", "out/below"), ("folder/a.npy/x", "folder/a.npy")],
)
def test_something_in_the_way_is_named(in_the_way: str, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(in_the_way).parent.mkdir(parents=True, exist_ok=True)
    Path(in_the_way).write_text("mine")
    sample("--n", 3, "--out", out, status=1)
    message = capsys.readouterr().err
    assert message.startswith("Error: ")
    assert out.partition("/")[0] in message
    assert tree(".") == {in_the_way: b"mine"}


def test_an_error_without_a_file_is_not_laid_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("vae_gen.generator.verify.read_manifests", fail)
    assert main(["verify", "out"]) == 1
    assert capsys.readouterr().err == "Error: Too many open files\n"
    assert not sys.stdout.closed


def test_a_closed_pipe_is_named() -> None:
    what = ("sample", "--model", TINY, "--n", "1000000", "--out", "-", "--format", "npy", "--seed", "1")
    with subprocess.Popen([*VAE_GEN, *what], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(process.stdout.read(100)) == 100
        process.stdout.close()
        messages = process.stderr.read().decode()
    assert process.returncode == 1
    first, second = messages.splitlines()[-2:]
    assert "Traceback" not in messages
    assert first in {f"Error: cannot write to standard output: {os.strerror(number)}" for number in CLOSED_PIPE}
    assert second == "1,000,000 of 1,000,000 images are not made"


def test_a_full_folder_for_temporary_files_is_named_and_not_the_output(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    monkeypatch.setattr(zip_container, "IN_MEMORY", 1000)
    sample("--n", 20_000, "--seed", 3, "--out", "a.zip", "--batch-size", 500, status=1)
    message = capsys.readouterr().err
    assert message.startswith(f"Error: cannot keep the directory of a zip archive in {small_disk}, or in the folder")
    assert "No space left on device\n20,000 of 20,000 images are not made\n" in message
    assert not Path("a.zip").exists()
