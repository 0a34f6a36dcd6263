"""The README against the program."""

from __future__ import annotations

import re
import shlex
from inspect import signature
from pathlib import Path

import click
import numpy as np
import pytest
import vae_gen
from vae_gen.cli import COMMANDS, cli, main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = [(page, kind, code) for page in PAGES for kind, code in FENCED.findall(page.read_text())]
LINES = [line for _, kind, code in BLOCKS if kind == "sh" for line in code.splitlines()]
PYTHON = [code for page, kind, code in BLOCKS if kind == "python" and page.name in ("README.md", "python.md")]
# Scripts for schedulers, with a number where they have a variable.
SCRIPTS = [re.sub(r"\$\w+|\{\}", "0", code) for _, kind, code in BLOCKS if kind in ("bash", "yaml")]


def invocation(line: str) -> list[str]:
    """The arguments of the command in a line of shell; none if it calls no vae-gen."""
    words = shlex.split(line, comments=True)
    end = next((words.index(sign) for sign in ("|", ":::") if sign in words), len(words))
    return words[words.index("vae-gen") + 1 : end] if "vae-gen" in words else []


INVOCATIONS = [words for line in LINES if (words := invocation(line))]
SCHEDULED = [
    words
    for script in SCRIPTS
    for line in re.findall(r"vae-gen sample [^\n\"]+", script)
    if (words := invocation(line))
]


@pytest.mark.parametrize("arguments", [*INVOCATIONS, *SCHEDULED], ids=" ".join)
def test_every_command_line_is_one_that_the_program_takes(arguments: list[str]) -> None:
    name, *rest = arguments
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    command.make_context(name, rest)  # raises for an unknown option or a value out of range


def test_the_first_commands_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text().partition("## Make images")[2].partition("From Python")[0]
    ran = [line for _, code in FENCED.findall(text) for line in code.splitlines()]
    assert len(ran) == 16
    for line in ran:
        words = shlex.split(line.replace("--n 1000000", "--n 100000"), comments=True)
        assert main(words[1:]) == 0, line
    assert len(list(Path("digits").glob("*.png"))) == len(list(Path("again").glob("*.png"))) == 100
    million = np.load("digits.npy", mmap_mode="r")
    assert million.shape == (100_000, 1, 28, 28)


def test_schedulers_make_the_same_run() -> None:
    assert len(SCHEDULED) == 4
    assert len({" ".join(words) for words in SCHEDULED}) == 1


def test_every_command_is_shown() -> None:
    assert {arguments[0] for arguments in INVOCATIONS} == set(COMMANDS)


@pytest.mark.parametrize("code", PYTHON)
def test_python_snippets_run(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    exec(code, names)
    images = names["images"]
    assert isinstance(images, np.ndarray)
    assert images.shape[1:] == (1, 28, 28)
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1


def test_the_package_s_own_example_is_the_readme_s_and_its_shapes_are_right() -> None:
    assert vae_gen.__doc__ is not None
    code = vae_gen.__doc__.partition("\n\n")[2]
    assert code in [snippet for _, kind, snippet in BLOCKS if kind == "python"]
    names: dict[str, np.ndarray] = {}
    exec(code, names)
    for name in ("mean", "log_var"):
        assert f"{names[name].dtype} {list(names[name].shape)}" in code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", FENCED.sub("", page.read_text())):
        file, _, section = target.partition("#")
        there = page.parent / file if file else page
        assert there.exists(), target
        titles = re.findall(r"^#+ (.+)$", FENCED.sub("", there.read_text()), re.MULTILINE) if section else []
        sections = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
        assert not section or section in sections, target


def test_every_public_member_is_documented() -> None:
    page = (ROOT / "docs/python.md").read_text()
    model = vae_gen.load("mnist")
    members = {name for name in dir(model) if not name.startswith("_")}
    table = {
        name
        for line in page.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)", line.split("|")[1])
    }
    assert table == members
    for name in members & vars(vae_gen.Model).keys():
        assert getattr(vae_gen.Model, name).__doc__, name
    for name in members - vars(vae_gen.Model).keys():
        assert f"`{name}`" in (vae_gen.Model.__doc__ or ""), name
    assert repr(model) in page
    for function, line in ((vae_gen.load, "`load("), (vae_gen.Model.sample, "`sample(")):
        given = re.findall(r"(\w+)=", page.partition(line)[2].partition(")")[0])
        assert given == [
            each.name for each in signature(function).parameters.values() if each.default is not each.empty
        ]


def test_the_bare_decoder_takes_five_lines() -> None:
    (snippet,) = [code for _, kind, code in BLOCKS if kind == "python" and "InferenceSession" in code]
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 5
