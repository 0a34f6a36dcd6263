"""Which models there are, what they say of themselves, and how commands are told of one."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import vae_gen
from click.shell_completion import ShellComplete
from vae_gen.cli import cli, main
from vae_gen.latents import draw

from tests.conftest import MODELS
from tests.runs import TINY
from tests.runtime.commands import expected_pixels, run
from tests.systems import needs_names_without_text

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_models_lists_what_ships(capsys: pytest.CaptureFixture[str]) -> None:
    run("models")
    listed = capsys.readouterr().out
    assert re.search(r"mnist +16 latents  28x28x1 +\d+ kB  \(default\)", listed)
    assert "notebook            8 latents  28x28x1" in listed
    run("models", "--json")
    (row,) = [row for row in json.loads(capsys.readouterr().out) if row["default"]]
    assert (row["name"], row["latent_dim"], row["image_shape"]) == ("mnist", 16, [1, 28, 28])
    assert (Path(row["path"]) / "decoder.onnx").stat().st_size == row["decoder_bytes"]


def test_info_says_what_the_bundle_says(capsys: pytest.CaptureFixture[str]) -> None:
    run("info", TINY, "--json")
    found = json.loads(capsys.readouterr().out)
    manifest = json.loads((MODELS / "tiny/manifest.json").read_text())
    assert {name: found[name] for name in manifest["description"]} == manifest["description"]
    assert found["sha256"] == manifest["sha256"]
    run("info", TINY)
    lines = capsys.readouterr().out.splitlines()
    assert "image_shape        3, 5, 4" in lines
    assert "latent_mean        0, 0.125, -0.25" in lines
    run("info", "mnist")
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.endswith((" None", " "))]  # of what it does not say
    at = lines.index("    decoder.onnx")
    assert lines[at + 4].split() == ["-", "times", "12"]  # each of several begins anew
    assert lines[at + 5].split()[0] == "before"
    run("info", MODELS / "foreign/plain.onnx", "--layout", "nchw")
    lines = capsys.readouterr().out.splitlines()
    assert "latent_dim         3" in lines
    assert not [line for line in lines if line.endswith((" None", " "))]


@pytest.mark.parametrize("command", ["info --json", "bench --seconds 0 --json"])
def test_a_model_s_place_may_be_an_option_as_in_other_commands(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for place in ([TINY], ["--model", TINY], ["mnist"], []):
        run(*command.split(), *place)
        values = json.loads(capsys.readouterr().out)
        found.append(values.get("name", values.get("model")))
    assert found[0] == found[1] != found[2] == found[3] == "mnist"
    assert main([*command.split(), "mnist", "--model", "notebook"]) == 2
    assert "mnist and --model notebook both name the model; give one of them" in capsys.readouterr().err


def test_a_bundle_that_a_shipped_name_hides_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    hint = "mnist is the model that ships; ./mnist is the one here\n"
    Path("mnist").mkdir()  # a folder of pictures, say
    run("sample", "--n", 1, "--seed", 1, "--out", "a")
    assert hint not in capsys.readouterr().err
    shutil.copytree(MODELS / "tiny", "mnist", dirs_exist_ok=True)
    for command in (["sample", "--n", 1, "--seed", 1, "--out", "b"], ["info"], ["info", "--model", "mnist"]):
        run(*command)
        assert capsys.readouterr().err.startswith(hint)
    run("sample", "--n", 1, "--seed", 1, "--out", "c", "--quiet")
    assert capsys.readouterr().err == ""
    run("info", "./mnist")
    found = capsys.readouterr()
    assert found.out.startswith("name               tiny")
    assert found.err == ""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("out", "out is no bundle but holds images that vae-gen has made, of the model 'tiny'; give that model's"),
        ("a.pt", "a.pt holds weights and is no ONNX graph; vae-gen export makes graphs of a training run's directory"),
        (
            "run/checkpoint.safetensors",
            f"{Path('run/checkpoint.safetensors')} holds weights and is no ONNX graph; vae-gen export",
        ),
        ("a.png", "a.png is not an ONNX graph that can be run"),
    ],
)
def test_what_people_take_for_a_model_is_said_to_be_what_it_is(
    model: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("sample", "--model", TINY, "--n", 2, "--seed", 3, "--out", "out")
    Path("run").mkdir()
    for name in ("a.pt", "a.png", "run/checkpoint.safetensors"):
        Path(name).write_bytes(b"no graph at all")
    capsys.readouterr()
    for command in (("info", model), ("sample", "--model", model, "--out", "more")):
        assert main([*command]) == 1
        assert capsys.readouterr().err.startswith(f"Error: {message}")


def test_a_path_is_a_path_however_a_shipped_model_is_called() -> None:
    shutil.copytree(MODELS / "tiny", "mnist")
    z = draw(1, 0, 4, 3)
    run("sample", "--model", "./mnist", "--n", 4, "--seed", 1, "--out", "a.npy")
    np.testing.assert_array_equal(np.load("a.npy"), expected_pixels(z))
    parts = ("--format", "npy", "--shard-size", 2, "--workers", 2)  # other processes are told of the model, too
    run("sample", "--model", "./mnist", "--n", 4, "--seed", 1, "--out", "b", *parts)
    np.testing.assert_array_equal(
        np.concatenate([np.load(f"b/00000{part}.npy") for part in (0, 1)]), expected_pixels(z)
    )
    run("sample", "--model", "./mnist", "--n", 4, "--seed", 1, "--out", "b", *parts, "--resume")
    run("verify", "b")
    assert vae_gen.load("./mnist").name == vae_gen.load(Path("mnist")).name == "tiny"
    assert vae_gen.load("mnist").name == "mnist"
    shutil.rmtree("mnist")
    with pytest.raises(vae_gen.VaeGenError, match=r"there is no model \w+Path\('mnist'\): it .*; did you mean mnist\?"):
        vae_gen.load(Path("mnist"))


@needs_names_without_text
@pytest.mark.parametrize(
    ("command", "model"),
    [
        ("sample --n 1 --model", "plain.onnx"),
        ("info", "plain.onnx"),
        ("info", "tiny"),
        ("encode a.npy --model", "tiny"),
    ],
)
def test_a_model_below_a_name_that_is_no_text_says_that_it_must_move(
    command: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(os.fsdecode(b"caf\xe9"))
    shutil.copytree(MODELS / "tiny", folder / "tiny")
    shutil.copy(MODELS / "foreign" / "plain.onnx", folder)
    np.save("a.npy", np.zeros((1, 3, 5, 4), np.uint8))
    assert main([*command.split(), str(folder / model)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"Error: caf\ufffd/{model}")
    assert "has bytes in its name, or in a folder's, that are no text in UTF-8" in said
    assert said.endswith("rename what has them, or copy the model elsewhere\n")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("line", ["sample --model", "info", "bench", "evaluate", "export", "reconstruct x --model"])
@pytest.mark.parametrize(("typed", "names"), [("", ["mnist", "notebook"]), ("no", ["notebook"]), ("bundles/", [])])
def test_models_are_completed_by_name_and_else_as_paths(line: str, typed: str, names: list[str]) -> None:
    completion = ShellComplete(cli, {}, "vae-gen", "_VAE_GEN_COMPLETE")
    found = [(item.type, item.value) for item in completion.get_completions(line.split(), typed)]
    assert found == [("file", typed), *(("plain", name) for name in names)]
