"""vae-gen explore as a process: its words, its browser, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from vae_gen.cli import main

from tests.runs import TINY, VAE_GEN

unix = pytest.mark.skipif(os.name == "nt", reason="signals and browsers work otherwise there")


@contextmanager
def exploring(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    """The process, the address that it has printed, and the file to which its browser writes what it opens."""
    browser, opened = folder / "browser", folder / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    browser.chmod(0o755)
    command = [*VAE_GEN, "explore", TINY, *options]
    environment = {**os.environ, "BROWSER": str(browser)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().rstrip("\n"), opened
        finally:
            process.kill()


@unix
@pytest.mark.parametrize(
    ("number", "options"), [(signal.SIGINT, ["--no-browser"]), (signal.SIGTERM, []), (signal.SIGTERM, ["--quiet"])]
)
def test_it_serves_until_it_is_asked_to_end(tmp_path: Path, number: signal.Signals, options: list[str]) -> None:
    with exploring(tmp_path, *options) as (process, address, opened):
        assert urllib.request.urlopen(address, timeout=20).read().startswith(b"<!doctype html>")
        deadline = time.monotonic() + 20
        if "--no-browser" in options:
            time.sleep(0.3)  # in which it would have been opened
        while "--no-browser" not in options and not (opened.exists() and opened.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        rest, messages = process.communicate(timeout=20)
    assert (process.returncode, rest) == (0, "")
    assert messages == ("" if "--quiet" in options else "the page shows tiny; Ctrl-C ends it\n")
    assert (opened.read_text() if opened.exists() else None) == (None if "--no-browser" in options else f"{address}\n")


@unix
def test_a_signal_in_a_moment_that_loses_exceptions_ends_it_too() -> None:
    program = """
import signal
from vae_gen.cli import main
from vae_gen.explore.server import Server

class Asked:
    def __del__(self):  # as in what else runs while objects are freed, Python drops what is raised
        signal.raise_signal(signal.SIGTERM)

Server.verify_request = lambda *_: Asked() is not None
main(["explore", "--no-browser", "--quiet", "MODEL"])
"""
    command = [sys.executable, "-c", program.replace("MODEL", TINY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            with suppress(ConnectionError):  # it may end before it answers
                urllib.request.urlopen(process.stdout.readline(), timeout=20)
            _, messages = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, messages) == (0, "")


def test_a_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["explore", "--no-browser", "--port", str(port)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"Error: cannot listen on port {port}: " in captured.err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nope"], 1, "there is no model 'nope'"),
        (["mnist", "--layout", "NHWC"], 2, "leave out --layout"),
        (["--port", "0"], 2, "0 is not in the range 1<=x<=65535"),
        (["--port", "65536"], 2, "65536 is not in the range"),
    ],
)
def test_bad_input_ends_it_before_it_serves(
    arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", "--no-browser", *arguments]) == status
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_broken_encoder_is_said_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in Path(TINY).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "encoder.onnx").unlink()
    assert main(["explore", "--no-browser", str(tmp_path)]) == 1
    assert "encoder.onnx is missing" in capsys.readouterr().err
