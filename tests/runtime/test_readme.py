"""The README against the program."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
from vae_gen.cli import COMMANDS, cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = [(page, kind, code) for page in PAGES for kind, code in FENCED.findall(page.read_text())]
LINES = [line for _, kind, code in BLOCKS if kind == "sh" for line in code.splitlines()]
INVOCATIONS = [
    words[words.index("vae-gen") + 1 :] for line in LINES if "vae-gen" in (words := shlex.split(line, comments=True))
]


@pytest.mark.parametrize("arguments", INVOCATIONS, ids=" ".join)
def test_every_command_line_is_one_that_the_program_takes(arguments: list[str]) -> None:
    name, *rest = arguments
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    command.make_context(name, rest)  # raises for an unknown option or a value out of range


def test_every_command_is_shown() -> None:
    assert {arguments[0] for arguments in INVOCATIONS} == set(COMMANDS)


@pytest.mark.parametrize("code", [code for page, kind, code in BLOCKS if kind == "python" and page.name == "README.md"])
def test_python_snippets_run(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    exec(code, names)
    images = names["images"]
    assert isinstance(images, np.ndarray)
    assert images.shape[1:] == (1, 28, 28)
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1


def test_the_bare_decoder_takes_five_lines() -> None:
    (snippet,) = [code for _, kind, code in BLOCKS if kind == "python" and "InferenceSession" in code]
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 5
