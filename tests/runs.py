"""What tests of runs share: the command that makes one, and what it left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from vae_gen.cli import main

from tests.conftest import MODELS

TINY = str(MODELS / "tiny")
VAE_GEN = [sys.executable, "-m", "vae_gen"]


def sample(*arguments: object, status: int = 0, model: str = TINY) -> None:
    assert main(["sample", "--model", model, "--quiet", *map(str, arguments)]) == status


def tree(folder: str | Path) -> dict[str, bytes]:
    """Every file in a folder, by its path."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def hashes(folder: str | Path) -> dict[str, str]:
    """The hash of every file in a folder, by its path."""
    return {path: sha256(content).hexdigest() for path, content in tree(folder).items()}


def until(happened: Callable[[], object]) -> None:
    """Wait for it, half a minute at most."""
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)
