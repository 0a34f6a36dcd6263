"""vae-gen evaluate: what it prints, says of the data, and writes into the bundle."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import vae_gen
from vae_gen import bundles
from vae_gen.cli import main
from vae_gen.data.datasets import DataSet, load_data_set
from vae_gen.errors import BundleError
from vae_gen.evaluation.evaluate import Evaluation
from vae_gen.manifest import Manifest

from tests.conftest import MODELS
from tests.systems import needs_names_without_text

FEW = "there are only 25 images to compare with: distances and shares of so few say little\n"


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with MNIST's names, with pictures of its size, in the current folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Path("digits").mkdir()
    for name, count in (("train", 120), ("t10k", 25)):
        pixels = rng.integers(0, 256, (count, 28, 28), np.uint8)
        header = struct.pack(">IIII", 0x803, *pixels.shape)
        Path(f"digits/{name}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
    return "digits"


def test_json_has_everything_and_a_seed_gives_it_again(digits: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "notebook", "--data", digits, "--samples", "20", "--seed", "3", "--json"]
    assert main(arguments) == 0
    first = capsys.readouterr()
    result = json.loads(first.out)
    assert result["command"] == "vae-gen evaluate notebook --data digits --samples 20 --seed 3"
    assert result.keys() == {"command", *(field.name for field in dataclasses.fields(Evaluation))}
    assert result["measured_on"]["compared_images"] == 20
    assert main([*arguments, "--threads", "1", "--quiet"]) == 0
    again = capsys.readouterr()
    assert again == (first.out, "")


def trained_on(data: DataSet | None) -> str:
    """A copy of a model, in the current folder, that says that it was trained on `data`."""
    shutil.copytree(vae_gen.load("notebook").directory or "", "bundle")
    training = {"data": data.describe()} if data else {"module": "mine:VAE"}
    dataclasses.replace(Manifest.read(Path("bundle")), training=training).write(Path("bundle"))
    return "bundle"


def test_data_that_the_model_was_trained_on_need_no_word(digits: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = trained_on(load_data_set(Path(digits)))
    assert main(["evaluate", model, "--data", digits, "--seed", "3", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == FEW
    assert json.loads(captured.out)["measured_on"]["same_data"] is True


def test_other_data_are_told_apart_and_marked(digits: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = trained_on(load_data_set(Path(digits)))
    images = np.random.default_rng(1).integers(0, 256, (120, 28, 28), np.uint8)
    np.savez("noise.npz", x_train=images, x_test=images[:25])
    arguments = ["evaluate", model, "--data", "noise.npz", "--seed", "3"]
    assert main([*arguments, "--write"]) == 0
    captured = capsys.readouterr()
    warning, few, _ = captured.err.splitlines(keepends=True)
    assert few == FEW
    assert re.sub("[0-9a-f]{12}", "HASH", warning) == (
        "notebook was trained on other data than noise.npz: there are other pixels in the training and validation "
        "images (SHA-256 HASH, not HASH); other pixels in the test images (SHA-256 HASH, not HASH). So the training "
        "images that samples are compared with are not the model's, and it may have been trained on some of the images "
        "that it is tested on\n"
    )
    assert captured.out.startswith("notebook on 25 test images of other data than it was trained on, seed 3; ")
    assert Manifest.read(Path(model)).metrics["evaluate"]["measured_on"]["same_data"] is False
    assert main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr().err == ""

    assert main(["evaluate", model, "--data", digits, "--invert", "--seed", "3", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith(
        "notebook was trained on other data than digits: there are other pixels in the training"
    )
    assert json.loads(captured.out)["measured_on"]["same_data"] is False


def test_a_model_that_does_not_say_what_it_was_trained_on(digits: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", trained_on(None), "--data", digits, "--seed", "3", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == (
        "notebook does not say what it was trained on: it may have been some of the images that it is tested on\n" + FEW
    )
    assert json.loads(captured.out)["measured_on"]["same_data"] is None


def test_the_table_shows_the_same_figures(digits: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "notebook", "--data", digits, "--seed", "3", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert main(["evaluate", "notebook", "--data", digits, "--seed", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == ("notebook on 25 test images of other data than it was trained on, seed 3; pixels in [0, 1]")
    table = {line[:26].strip(): line[26:].split() for line in lines[1:] if line.startswith("  ")}
    assert table["PSNR"][0] == f"{result['reconstruction']['psnr']:.4g}"
    assert table["of latent 7"] == [f"{result['latents']['kl_per_latent'][7]:.4g}"]
    assert table["active units"] == [str(result["latents"]["active_units"]), "of", "8"]
    assert table["-ELBO"][0] == f"{result['elbo']['bits_per_dimension']:.4g}"
    quality = result["sample_quality"]
    kinds = ("training_images", "reconstructions", "samples")
    assert table["Frechet distance"][:3] == [f"{quality[kind]['frechet_distance']:.4g}" for kind in kinds]
    assert table["coverage"][:3] == [f"{quality[kind]['coverage']:.4g}" for kind in kinds]
    ratio = quality["samples_to_reconstructions"]["recall"]
    assert table["recall"][3] == ("-" if ratio is None else f"{ratio:.4g}")
    nearest = result["nearest_training_image"]
    assert table["smallest"] == [f"{nearest[kind]['smallest']:.4g}" for kind in ("held_out", *kinds[1:])]
    assert "25 images of each kind against 25 test images, in 64 principal components, k = 5" in lines


def test_write_records_it_in_the_bundle(digits: str, capsys: pytest.CaptureFixture[str]) -> None:
    trained_on(load_data_set(Path(digits)))
    before = Manifest.read(Path("bundle"))
    graphs = {path.name: path.read_bytes() for path in Path("bundle").glob("*.onnx")}
    assert main(["evaluate", "bundle", "--data", digits, "--seed", "3", "--write", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert captured.err == f"{FEW}recorded in {Path('bundle/manifest.json')}\n"
    after = Manifest.read(Path("bundle"))
    assert after.metrics["evaluate"] == result
    assert after == dataclasses.replace(before, metrics={**before.metrics, "evaluate": result})
    assert {path.name: path.read_bytes() for path in Path("bundle").iterdir() if path.suffix == ".onnx"} == graphs
    assert sorted(path.name for path in Path("bundle").iterdir()) == [*sorted(graphs), "manifest.json"]
    # Again, with another seed: replaced, not added to.
    assert main(["evaluate", "bundle", "--data", digits, "--seed", "4", "--write", "--quiet"]) == 0
    assert Manifest.read(Path("bundle")).metrics["evaluate"]["measured_on"]["seed"] == 4
    assert capsys.readouterr().err == ""


def test_the_package_s_own_models_are_not_written_to(
    digits: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(bundles.shipped_folder(), "package")
    monkeypatch.setattr(bundles, "shipped_folder", lambda: Path("package"))
    assert main(["evaluate", "mnist", "--data", digits, "--write"]) == 2
    said = "--write is for models of your own, and mnist came with vae-gen; give the path of a copy of"
    assert said in capsys.readouterr().err


@needs_names_without_text
def test_write_keeps_the_bundle_readable_however_the_data_are_called(digits: str) -> None:
    trained_on(None)
    name = os.fsdecode(b"digits\xff")
    Path(digits).rename(name)
    assert main(["evaluate", "bundle", "--data", name, "--seed", "3", "--write", "--quiet"]) == 0
    command = Manifest.read(Path("bundle")).metrics["evaluate"]["command"]
    assert command.startswith("vae-gen evaluate notebook --data 'digits\ufffd' --samples ")


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "\udcff"])
def test_what_could_not_be_read_again_is_not_written(digits: str, value: object) -> None:
    trained_on(None)
    before = Path("bundle/manifest.json").read_bytes()
    with pytest.raises(BundleError, match=r"manifest\.json is not written, as it could not be read"):
        Manifest.read(Path("bundle")).record(Path("bundle"), kl=value)
    assert Path("bundle/manifest.json").read_bytes() == before


def test_a_manifest_that_changed_meanwhile_stays(tmp_path: Path) -> None:
    shutil.copytree(MODELS / "tiny", tmp_path / "bundle")
    read = Manifest.read(tmp_path / "bundle")
    dataclasses.replace(read, training={"steps": 1}).write(tmp_path / "bundle")
    text = (tmp_path / "bundle" / "manifest.json").read_text()
    with pytest.raises(BundleError, match=r"manifest\.json has changed since it was read; measure the model again"):
        read.record(tmp_path / "bundle", evaluate={})
    assert (tmp_path / "bundle" / "manifest.json").read_text() == text


def test_without_a_seed_a_fresh_one_is_shown(digits: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--data", digits, "--json"]) == 0
    captured = capsys.readouterr()
    seed = json.loads(captured.out)["measured_on"]["seed"]
    assert captured.err.startswith(f"seed {seed}\n")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["evaluate"], 2, "Missing option '--data'"),
        (["evaluate", "--data", "digits", "--samples", "5"], 2, "'--samples': 5 is not in the range"),
        (["evaluate", "--data", "digits", "--seed", "-1"], 2, "seed is -1; it must be between 0 and 2**64 - 1"),
        (["evaluate", "--data", "nowhere"], 1, "there is no file or folder nowhere"),
        (["evaluate", "nothing", "--data", "digits"], 1, "there is no model 'nothing'"),
        (["evaluate", str(MODELS / "foreign" / "plain.onnx"), "--data", "digits"], 1, "plain.onnx is a decoder alone"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said(
    digits: str, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    assert main(arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err


@pytest.mark.mnist
def test_the_shipped_manifest_holds_what_the_command_prints(mnist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = Manifest.read(vae_gen.load("notebook").directory or Path()).metrics["evaluate"]
    assert recorded["command"] == f"vae-gen evaluate notebook --data {mnist.name} --samples 10000 --seed 0"
    assert main(["evaluate", "notebook", "--data", str(mnist), "--seed", "0", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    for part, tolerance in (("reconstruction", 1e-4), ("elbo", 1e-4)):
        assert result[part] == pytest.approx(recorded[part], rel=tolerance)
    assert result["measured_on"].pop("data")["sha256"] == recorded["measured_on"].pop("data")["sha256"]
    assert result["measured_on"] == recorded["measured_on"]
    for kind, figures in recorded["sample_quality"].items():
        assert result["sample_quality"][kind] == pytest.approx(figures, rel=0.01), kind


def test_an_impossible_seed_is_refused_before_the_images_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "notebook", "--data", "nowhere", "--seed", "-1"]) == 2
    assert "seed is -1; it must be between 0 and 2**64 - 1" in capsys.readouterr().err
