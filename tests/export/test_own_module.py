"""Networks that others wrote: exported, against themselves in PyTorch's float64, or refused with a reason."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import vae_gen
from safetensors.torch import load_file, save_file, save_model
from torch import nn
from vae_gen.cli import main
from vae_gen.errors import BundleError, DataError, NetworkError, UsageError
from vae_gen_export.publish import publish
from vae_gen_export.sources.bundle import open_source
from vae_gen_export.sources.own_module import open_module

from tests.conftest import MODELS
from tests.export import own_networks
from tests.export.own_networks import SHAPE, Halves, Rows, Tied
from tests.systems import needs_names_too_long

HERE = "tests.export.own_networks:"
Z = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
IMAGES = np.random.default_rng(2).random((5, *SHAPE)).astype(np.float32)


def exported(name: str, out: Path, *options: str) -> vae_gen.Model:
    assert main(["export", "--module", HERE + name, "--latent-dim", "3", "--out", str(out), "-q", *options]) == 0
    return vae_gen.load(out)


def halves(network: Halves | None = None) -> list[np.ndarray]:
    """The mean, the second output of the encoder, and the image of Halves, by PyTorch in float64."""
    network = (network or Halves()).eval().double()
    with torch.no_grad():
        outputs = *network.encoder(torch.from_numpy(IMAGES).double()), network.decoder(torch.from_numpy(Z).double())
    return [output.numpy() for output in outputs]


def check(model: vae_gen.Model, mean: np.ndarray, log_var: np.ndarray, image: np.ndarray) -> None:
    found = (*model.encode(IMAGES), model.decode(Z))
    for one, expected in zip(found, (mean, log_var, image), strict=True):
        np.testing.assert_allclose(one, expected, atol=2e-6)


@pytest.mark.parametrize("name", ["Halves", "InATuple", "InPlace", "pair", "ready"])
def test_a_network_becomes_a_bundle(name: str, tmp_path: Path) -> None:
    model = exported(name, tmp_path / "mine")
    check(model, *halves())
    assert model.manifest is not None
    version = torch.__version__.partition("+")[0]  # what comes after it, the CUDA it was built for, pip may not know
    assert model.manifest.training["packages"].pop("torch").partition("+")[0] == version
    assert model.manifest.training == {"module": HERE + name, "packages": {}}
    assert model.description.latent_std == ()
    operations = {node.op_type for node in onnx.load(tmp_path / "mine/decoder.onnx").graph.node}
    assert operations == {"Gemm", "Relu", "Sigmoid", "Reshape"}


def test_outputs_are_found_by_name_and_a_deviation_becomes_a_log_variance(tmp_path: Path) -> None:
    mean, spread, image = halves()  # sigma = exp(spread)
    check(exported("ByName", tmp_path / "mine"), mean, 2 * spread, image)


def test_methods_on_rows_of_pixels_from_minus_one_to_one(tmp_path: Path) -> None:
    options = ["--image-size", "5x4", "--value-range", "-1,1"]
    model = exported("Rows", tmp_path / "mine", *options)
    assert model.image_shape == SHAPE
    network = Rows().double()
    with torch.no_grad():
        mean, log_var = network.encode(torch.from_numpy(IMAGES).double().flatten(1) * 2 - 1)
        image = (network.decode(torch.from_numpy(Z).double()) + 1) / 2
    check(model, mean.numpy(), log_var.numpy(), image.numpy().reshape(-1, *SHAPE))


@pytest.mark.parametrize("name", ["decoder", "Halves"])
def test_a_decoder_alone_is_one_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "spots.onnx"
    model = exported(name, out, "--licence", "MIT")
    np.testing.assert_allclose(model.decode(Z), halves()[2], atol=2e-6)
    assert (model.name, model.description.licence, model.latent_dim, model.image_shape) == ("spots", "MIT", 3, SHAPE)
    assert [path.name for path in tmp_path.iterdir()] == ["spots.onnx"]
    before = out.read_bytes()
    arguments = ["export", "--module", HERE + name, "--latent-dim", "3", "--out", str(out)]
    assert main(arguments) == 1
    assert "spots.onnx already holds something" in capsys.readouterr().err
    assert main([*arguments, "--overwrite", "--licence", "MIT"]) == 0
    assert "the decoder is in" in capsys.readouterr().err
    assert out.read_bytes() == before
    (tmp_path / "folder.onnx").mkdir()
    assert main([*arguments[:-1], str(tmp_path / "folder.onnx"), "--overwrite"]) == 1
    assert "is a directory; a name that ends in .onnx" in capsys.readouterr().err


def test_how_many_weights_groups_become_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", "--module", HERE + "Grouped", "--latent-dim", "3", "--no-fold", "--out"]
    assert main([*arguments, str(tmp_path / "grouped.onnx")]) == 0
    assert "groups there: their 216 weights become 864\n" in capsys.readouterr().err
    tensors = onnx.load(tmp_path / "grouped.onnx").graph.initializer
    assert sorted(math.prod(each.dims) for each in tensors if len(each.dims) == 4) == [12, 4 * 24, 4 * 192]
    np.testing.assert_allclose(
        vae_gen.load(tmp_path / "grouped.onnx").decode(Z), halves(own_networks.Grouped())[2], atol=2e-6
    )
    assert main([*arguments[:2], HERE + "Halves", *arguments[3:], str(tmp_path / "halves.onnx")]) == 0
    assert "in groups" not in capsys.readouterr().err


@pytest.mark.parametrize("form", ["safetensors", "pt", "nested"])
def test_weights_are_read(form: str, tmp_path: Path) -> None:
    network = Halves()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.ckpt")
    weights = network.state_dict()
    if form == "safetensors":
        save_file(weights, path)
    else:
        torch.save({"epoch": 3, "state_dict": weights} if form == "nested" else weights, path)
    source = open_module(HERE + "Halves", path, 3)
    expected = halves(network)
    assert not np.allclose(expected[2], halves()[2])
    np.testing.assert_array_equal(source.reference("decoder.onnx", Z)["image"], expected[2])
    np.testing.assert_array_equal(source.reference("encoder.onnx", IMAGES)["mean"], expected[0])
    assert source.training["weights"] == path.name
    assert len(source.training["weights_sha256"]) == 64
    if form == "pt" and sys.platform == "linux":
        unspoken = path.rename(tmp_path / os.fsdecode(b"w\xff.pt"))
        assert open_module(HERE + "Halves", unspoken, 3).training["weights"] == "w\ufffd.pt"


def test_a_tensor_of_two_names_may_be_in_the_file_once(tmp_path: Path) -> None:
    network, path = Tied(), tmp_path / "weights.safetensors"
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    save_model(network, str(path))
    assert len(load_file(path)) == len(network.state_dict()) - 1
    source = open_module(HERE + "Tied", path, 3)
    mean, spread, image = halves(network)
    encoded = source.reference("encoder.onnx", IMAGES)
    np.testing.assert_array_equal(encoded["mean"], mean)
    np.testing.assert_array_equal(encoded["log_var"], spread)
    np.testing.assert_array_equal(source.reference("decoder.onnx", Z)["image"], image)
    with pytest.raises(DataError, match=r"does not fit Halves: it lacks encoder\.(mean|spread)\.weight$"):
        open_module(HERE + "Halves", path, 3)


def write(path: Path, content: Any) -> None:
    if content is None:
        return
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)


WEIGHTS = Halves().state_dict()
LARGER = {**WEIGHTS, "encoder.mean.weight": torch.zeros(3, 61)}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pt", None, "there is no file .*w.pt"),
        ("w.pt", b"import torch\n", "w.pt is damaged, or was not written by torch.save"),
        ("w.pt", b"", "w.pt is damaged, or was not written by torch.save"),
        (
            "w.pt",
            Halves(),
            r"holds more than tensors \(tests.export.own_networks.Halves\), and reading it would run code",
        ),
        ("w.pt", [1, 2], "holds no state dict but an object of type list"),
        ("w.pt", {}, "holds no state dict but an object of type dict"),
        ("w.pt", {"epoch": 3, "lr": 0.1}, "is no state dict: 'epoch' is of type int, 'lr' is of type float"),
        ("w.safetensors", b"12345678901234567890", "is no safetensors file"),
        (
            "w.pt",
            {"a": torch.zeros(1)},
            r"it lacks encoder.mean.weight, .* and 10 more; it has a, which the network has",
        ),
        ("w.pt", LARGER, r"w.pt does not fit Halves: it has encoder.mean.weight \[3, 61\] for \[3, 60\]$"),
    ],
)
def test_weights_that_cannot_be_had_are_named(name: str, content: Any, message: str, tmp_path: Path) -> None:
    write(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        open_module(HERE + "Halves", tmp_path / name, 3)


@needs_names_too_long
@pytest.mark.usefixtures("paths_of_python_3_14")
def test_what_nobody_can_tell_is_not_called_missing() -> None:
    with pytest.raises(DataError, match=r"^cannot read .*: File name too long"):
        open_module(HERE + "Halves", Path("a" * 300), 3)
    with pytest.raises(OSError, match="File name too long"):
        open_source("a" * 300)


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        ("Halves", UsageError, "--module is 'Halves'; write package.module:factory"),
        ("no_such.module:Halves", UsageError, "there is no module 'no_such', neither installed nor in the current dir"),
        (HERE + "Nothing", UsageError, r"has no 'Nothing'; it has ByName, .* and \d+ more"),
        (
            "tests.export.lacking:Halves",
            NetworkError,
            r"cannot be imported: ModuleNotFoundError: No module named 'nowh",
        ),
        (
            HERE + "fails",
            NetworkError,
            r"fails cannot be called .*: ValueError: no such \(own_networks.py, line \d+\)$",
        ),
        (HERE + "leaves", NetworkError, "SystemExit: usage: something else"),
        (HERE + "needs_an_argument", NetworkError, "without arguments: TypeError: .*'width'"),
        (HERE + "number", NetworkError, "number makes an object of type int; it must make a torch.nn.Module"),
        (HERE + "decoder", NetworkError, "Sequential has neither a method 'decode' nor a sub-module 'decoder'"),
        (
            HERE + "OnlyDecoder",
            NetworkError,
            "neither a method 'encode' nor .*; its sub-modules are decoder. Give",
        ),
        (HERE + "OneTensor", NetworkError, r"the encoder returns a Tensor \[8, 6\]; it must return the pair"),
        (HERE + "ThreeTensors", NetworkError, r"the encoder returns a tuple of 3 \(a Tensor \[8, 3\], "),
        (HERE + "NoImage", NetworkError, "the decoder returns a mapping with pixels; it must return the image"),
        (HERE + "FourDimensional", NetworkError, r"makes a mean \[8, 3, 1, 1\] of 8 images; it must be \[8, 3\]"),
        (HERE + "TwoChannels", NetworkError, r"makes \[8, 2, 5, 4\] of 8 latents; it must make images \[8, C, H, W\]"),
        (HERE + "Rows", NetworkError, r"makes \[8, 60\] of 8 latents; .*--image-size"),
        (HERE + "Logits", NetworkError, r"makes pixels from -\d.* to \d.*; they must lie in \[0, 1\]"),
        (HERE + "NotFinite", NetworkError, "the decoder makes values that are not finite"),
        (HERE + "Random", NetworkError, "two runs of the encoder on the same input differ"),
        (HERE + "OfTheBatch", NetworkError, "what the decoder makes of a row depends on the others in its batch"),
        (HERE + "OfTheFirst", NetworkError, "what the decoder makes of a row depends on the others in its batch"),
        (HERE + "OfThoseBefore", NetworkError, "what the decoder makes of a row depends on the others in its batch"),
    ],
)
def test_what_cannot_be_exported_says_why(module: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_module(module, None, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 4}, r"the decoder fails on float64 \[8, 4\]: RuntimeError: .*mat1 and mat2 .*number of rows"),
        ({"image_size": (4, 5)}, r"makes \[8, 3, 5, 4\] of 8 latents; it must make images \[8, C, 4, 5\]"),
        ({"channels": 1}, r"makes \[8, 3, 5, 4\] of 8 latents; it must make images \[8, 1, H, W\]"),
        (
            {"value_range": (1.0, 0.0)},
            r"value_range is \(1.0, 0.0\); it must be two numbers up to 1e\+30, the lower one first",
        ),
        ({"value_range": (0.0, float("nan"))}, r"value_range is \(0.0, nan\)"),
    ],
)
def test_sizes_that_do_not_fit_the_network(options: dict[str, Any], message: str) -> None:
    with pytest.raises((NetworkError, UsageError), match=message):
        open_module(HERE + "Halves", None, **{"latent_dim": 3, **options})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Decides", r"GuardOnDataDependentSymNode: .*\(own_networks.py, line \d+\). It follows no `if`"),
        ("DecidesByCond", "a graph with If of what turns z into image, .*not even by torch.cond"),
        ("NoSuchOperator", "No ONNX function found for .*svd"),
        ("FixedBatch", "of 2 rows and no other number: the network takes the batch size for a constant"),
    ],
)
def test_what_pytorch_cannot_trace_leaves_nothing_behind(
    name: str, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", "--module", HERE + name, "--latent-dim", "3", "--out", str(tmp_path / "mine")]
    assert main(arguments) == 1
    errors = capfd.readouterr().err
    assert len(errors.splitlines()) == 1, errors  # of all that the exporter has to say
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(errors)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_differs_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_module(HERE + "Halves", None, 3)
    computed = type(source)._computed
    monkeypatch.setattr(
        type(source),
        "_computed",
        lambda self, *arguments: {name: value + 1e-4 for name, value in computed(self, *arguments).items()},
    )
    with pytest.raises(BundleError, match=r"mean differs from PyTorch by 0\.0001 at batch size 1"):
        publish(source, tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x"], "give a training run's directory or a model, or --module"),
        (["runs/a", "--module", "a:b", "--latent-dim", "3", "--out", "x"], "one of them"),
        (["runs/a", "--latent-dim", "3", "--out", "x"], "--latent-dim is for --module"),
        (["--module", "a:b", "--out", "x"], "--module needs --latent-dim"),
        (["--module", "no_such:b", "--latent-dim", "3", "--out", "x"], "there is no module 'no_such'"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_current_directory_can_be_imported_from(tmp_path: Path) -> None:
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "networks.py").write_text(Path(own_networks.__file__).read_text())
    torch.save(Halves().state_dict(), tmp_path / "w.pt")
    # -P: the current directory is no place of Python's own, as for the program `vae-gen`.
    command = [sys.executable, "-P", "-m", "vae_gen", "export", "--module", "my.networks:Halves", "--weights", "w.pt"]
    subprocess.run([*command, "--latent-dim", "3", "--out", "mine", "--quiet"], check=True, cwd=tmp_path)
    assert json.loads((tmp_path / "mine/manifest.json").read_text())["training"]["module"] == "my.networks:Halves"
    check(vae_gen.load(tmp_path / "mine"), *halves())


def test_the_readmes_wrapper_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (wrapper,) = re.findall(r"```py\n(.*?)```", (MODELS.parents[1] / "docs/decoders.md").read_text(), re.DOTALL)
    theirs = "import torch\nfrom tests.export.own_networks import Convolutional as TheirVAE\n\n"
    (tmp_path / "wrapper_of_the_readme.py").write_text(theirs + wrapper)
    monkeypatch.syspath_prepend(tmp_path)
    source = open_module("wrapper_of_the_readme:Wrapped", None, 16)
    assert source.image_shape == SHAPE
    network = own_networks.Convolutional(16).double()
    with torch.no_grad():
        mean, deviation, _ = network.posterior(torch.from_numpy(IMAGES).double() - 0.5)
    found = source.reference("encoder.onnx", IMAGES)
    np.testing.assert_allclose(found["mean"], mean.numpy(), atol=1e-12)
    np.testing.assert_allclose(found["log_var"], 2 * np.log(deviation.numpy()), atol=1e-12)


def test_a_convolutional_vae_of_pythae(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    network = own_networks.pythae_vae()
    network.train()
    for _ in range(2):  # so that its BatchNorms have statistics to be fused
        network({"data": torch.rand(4, 1, 28, 28)})
    path = tmp_path / "model.pt"
    torch.save({"model_state_dict": network.state_dict()}, path)  # as its trainer writes it
    out = tmp_path / "bundle"
    arguments = ["export", "--module", HERE + "pythae_vae", "--weights", str(path), "--latent-dim", "4", "--out"]
    assert main([*arguments, str(out), "--no-fold"]) == 0  # to simplify this encoder takes a while
    assert main([*arguments, str(tmp_path / "decoder.onnx")]) == 0
    others = 49 * 512 * 256 * 9 + 196 * 256 * 9  # the last two transposed convolutions
    before, after = 4 * 16384 + 16 * 1024 * 512 * 9 + others, 4 * 512 * 49 + others
    assert f"decoder.onnx: {before:,} -> {after:,} multiply-adds an image" in capsys.readouterr().err
    model = vae_gen.load(out)
    images = np.random.default_rng(0).random((5, 1, 28, 28)).astype(np.float32)
    z = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    network.eval().double()
    with torch.no_grad():
        encoded = network.encoder(torch.from_numpy(images).double())
        decoded = network.decoder(torch.from_numpy(z).double())["reconstruction"]
    mean, log_var = model.encode(images)
    np.testing.assert_allclose(mean, encoded.embedding.numpy(), atol=1e-5)
    np.testing.assert_allclose(log_var, encoded.log_covariance.numpy(), atol=1e-5)
    for each in (model, vae_gen.load(tmp_path / "decoder.onnx")):
        np.testing.assert_allclose(each.decode(z), decoded.numpy(), atol=1e-5)
    for file in (out / "encoder.onnx", out / "decoder.onnx", tmp_path / "decoder.onnx"):
        for node in onnx.load(file).graph.node:
            assert node.op_type != "BatchNormalization"
            assert not {"output_padding", "group"} & {attribute.name for attribute in node.attribute}
