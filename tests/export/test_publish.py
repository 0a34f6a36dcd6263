from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import vae_gen
from vae_gen.cli import main
from vae_gen.data.datasets import DataOptions, load_data_set
from vae_gen.errors import BundleError, DataError, OutputError
from vae_gen.manifest import Description, Manifest
from vae_gen_export.publish import publish
from vae_gen_export.sources import networks, training_run
from vae_gen_export.sources.training_run import open_run
from vae_gen_export.variants import EXACT
from vae_gen_train import trainer
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.config import TrainConfig
from vae_gen_train.metrics_log import read_metrics

from tests.conftest import MODELS
from tests.disks import disk_in_memory, remount
from tests.models import generate
from tests.systems import needs_links
from tests.telemetry import WATCH
from tests.train.conftest import small_data  # noqa: F401


@pytest.fixture(scope="module", params=["notebook", "notebook-relu"])
def run(request: pytest.FixtureRequest, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    folder = tmp_path_factory.mktemp("runs") / request.param
    config = TrainConfig.from_preset(request.param, steps=5, batch_size=16, latent_dim=3)
    trainer.train(load_data_set(small_data), folder, config)
    return folder


@pytest.fixture(scope="module")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "mine"
    publish(open_run(run), out, licence="MIT")
    return out


def test_a_bundle_has_three_files_and_works(run: Path, bundle: Path) -> None:
    assert sorted(path.name for path in bundle.iterdir()) == ["decoder.onnx", "encoder.onnx", "manifest.json"]
    assert [path.name for path in bundle.parent.iterdir()] == ["mine"]
    model = vae_gen.load(bundle)
    model.check()
    vae = Checkpoint.open(run).load_network().eval().double()
    z = np.random.default_rng(0).standard_normal((70, 3)).astype(np.float32)
    image = np.random.default_rng(0).random((70, 1, 12, 8)).astype(np.float32)
    with torch.inference_mode():
        expected = vae.decoder(torch.from_numpy(z).double()).numpy()
        mean, log_var = (tensor.numpy() for tensor in vae.encoder(torch.from_numpy(image).double()))
    np.testing.assert_allclose(model.decode(z), expected, atol=1e-5)
    np.testing.assert_allclose(model.encode(image)[0], mean, atol=1e-5)
    np.testing.assert_allclose(model.encode(image)[1], log_var, atol=1e-5)


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx"])
def test_graphs_are_what_every_engine_takes(bundle: Path, name: str) -> None:
    model = onnx.load(bundle / name)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 13)]
    assert not model.functions
    for node in model.graph.node:
        assert node.domain == ""
        assert node.op_type in {"Conv", "ConvTranspose", "Flatten", "Gemm", "LeakyRelu"} | {
            "Relu",
            "Reshape",
            "Sigmoid",
            "Split",
        }
        attributes = {attribute.name for attribute in node.attribute}
        assert not {"auto_pad", "output_padding", "output_shape", "group", "allowzero"} & attributes
        assert ("pads" in attributes) == node.op_type.startswith("Conv")
        assert not node.doc_string
        assert not node.metadata_props
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        assert [dim.dim_param for dim in dims] == ["batch"] + [""] * (len(dims) - 1)
        assert all(dim.dim_value > 0 for dim in dims[1:])
    assert str(Path.cwd()).encode() not in model.SerializeToString()


def test_decoder_runs_in_five_lines_of_bare_onnxruntime(bundle: Path) -> None:
    for path in (bundle / "decoder.onnx", *MODELS.parents[1].glob("models/*/decoder.onnx")):
        session = onnxruntime.InferenceSession(path)
        latent_dim = session.get_inputs()[0].shape[1]
        z = np.random.default_rng(0).standard_normal((16, latent_dim)).astype(np.float32)
        (image,) = session.run(["image"], {"z": z})
        np.testing.assert_allclose(image, vae_gen.load(path).decode(z), atol=1e-6)


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx"])
def test_graphs_describe_themselves_as_the_manifest_does(run: Path, bundle: Path, name: str) -> None:
    model = onnx.load(bundle / name)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    description = Manifest.read(bundle).description
    assert Description.from_metadata(metadata, name) == description
    assert metadata["name"] == model.graph.name == "mine"
    assert metadata["licence"] == "MIT"
    assert metadata["prior"] == "standard normal"
    assert (metadata["latent_dim"], metadata["image_shape"], metadata["color_mode"]) == ("3", "[1, 12, 8]", "L")
    saved = Checkpoint.open(run)
    assert json.loads(metadata["latent_std"]) == saved.latents["std"]
    assert len(description.bundle_id) == 16
    assert "[batch, latent_dim]" in model.doc_string == model.graph.doc_string


def test_the_manifest_tells_where_the_model_comes_from(run: Path, bundle: Path, small_data: Path) -> None:  # noqa: F811
    values = json.loads((bundle / "manifest.json").read_text())
    for name, digest in values["sha256"].items():
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == digest
    saved = Checkpoint.open(run)
    assert values["training"]["steps"] == 5
    assert values["training"]["config"] == saved.config.as_dict()
    assert values["training"]["data"] == saved.data
    (test,) = [record for record in read_metrics(run) if record["split"] == "test"]
    assert values["metrics"]["test"] == {name: test[name] for name in ("step", "reconstruction", "kl", "total", "sse")}
    options = f"--data {small_data.name} --latent-dim 3 --batch-size 16 --steps 5 --threads {saved.config.threads}"
    assert values["metrics"]["command"] == f"vae-gen train --preset {run.name} {options}"
    errors = values["export"]["parity_with_pytorch_float64"]
    assert errors.keys() == {"mean", "log_var", "image"}
    assert all(0 < error <= EXACT.largest for error in errors.values())
    simplified = values["export"]["simplified"]
    for file in ("encoder.onnx", "decoder.onnx"):
        before, after = (simplified[file][f"multiply_adds_{when}"] for when in ("before", "after"))
        assert (100 * after < before) if run.name == "notebook" else (0.5 * before < after <= before)


def test_the_same_checkpoint_gives_the_same_bytes_in_another_process(run: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    command = [sys.executable, "-m", "vae_gen", "export", str(run), "--out", str(out), "--licence", "MIT", "--quiet"]
    subprocess.run(command, check=True, cwd=tmp_path)
    for name in ("encoder.onnx", "decoder.onnx", "manifest.json"):
        assert (out / name).read_bytes() == (bundle / name).read_bytes()


def test_no_fold_keeps_the_graphs_as_they_were(run: Path, bundle: Path, tmp_path: Path) -> None:
    manifest = publish(open_run(run), tmp_path / "plain", fold=False)
    decoder = onnx.load(tmp_path / "plain/decoder.onnx")
    assert [node.op_type for node in decoder.graph.node if node.op_type.startswith("Conv")] == [
        "ConvTranspose",
        "Conv",
        "Conv",
    ]
    assert manifest.export["simplified"] == {}
    z = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_allclose(vae_gen.load(tmp_path / "plain").decode(z), vae_gen.load(bundle).decode(z), atol=1e-5)


def test_a_network_that_differs_is_not_published(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = networks.trace

    def trace_another(network, *arguments):  # type: ignore[no-untyped-def]
        graph = trace(network, *arguments)
        if isinstance(network, torch.nn.Sequential):  # the decoder
            with torch.no_grad():
                network[2].bias[3] += 1e-2
        return graph

    monkeypatch.setattr(networks, "trace", trace_another)
    with pytest.raises(BundleError, match=r"image differs from PyTorch by .* at batch size 1; at most 1\.0.e-05"):
        publish(open_run(run), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_replaced_only_when_asked_and_only_if_it_is_one(bundle: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    publish(open_run(run), out)  # an empty directory is free
    before = (out / "manifest.json").read_bytes()
    with pytest.raises(OutputError, match=r"out already holds something; .*--overwrite"):
        publish(open_run(run), out, name="other")
    assert (out / "manifest.json").read_bytes() == before
    publish(open_run(run), out, name="other", overwrite=True)
    assert Manifest.read(out).description.name == "other"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (out / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match=r"files that are no part of a bundle: thesis\.txt"):
        publish(open_run(run), out, overwrite=True)
    assert (out / "thesis.txt").read_text() == "precious"
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        publish(open_run(run), tmp_path / "file")


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(OSError(28, "No space left on device"), OutputError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
@pytest.mark.parametrize("before", ["bundle", "empty", "nothing"])
def test_a_failure_leaves_what_was_there(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    failure: BaseException,
    raised: type[BaseException],
) -> None:
    out = tmp_path / "out"
    if before == "bundle":
        publish(open_run(run), out)
    elif before == "empty":
        out.mkdir()
    there = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    replace = Path.replace

    def fail_for_the_last(self: Path, target: Path) -> Path:
        if self.name == "bundle" or (self.name, target.parent) == ("manifest.json", out):
            if self.parent.name == "bundle" and raised is KeyboardInterrupt:
                replace(self, target)  # which may come when it is done, and nobody knows it yet
            if self.parent.name != "replaced":
                raise failure
        return replace(self, target)

    source = open_run(run)
    monkeypatch.setattr(Path, "replace", fail_for_the_last)
    with pytest.raises(raised, match=r"cannot write .*out: No space left" if raised is OutputError else None):
        publish(source, out, name="other", overwrite=True)
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == there


@needs_links
@pytest.mark.parametrize("out", [".", "link", "dangling"])
def test_a_bundle_goes_where_its_name_leads(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "place"
    (place / "real").mkdir(parents=True)
    (place / "link").symlink_to("real")
    (place / "dangling").symlink_to("new")
    monkeypatch.chdir(place / "real" if out == "." else place)
    expected = place / ("new" if out == "dangling" else "real")
    for overwrite in ([], ["--overwrite"]):
        assert main(["export", "mnist", "--out", out, "--name", f"{len(overwrite)}", *overwrite]) == 0
        assert {path.name for path in expected.iterdir()} == {"encoder.onnx", "decoder.onnx", "manifest.json"}
        assert Manifest.read(expected).description.name == f"{len(overwrite)}"
        vae_gen.load(expected).check()
        assert {path.name for path in place.iterdir()} == {"real", "link", "dangling", expected.name}
        assert (place / "link").is_symlink()
        assert (place / "dangling").is_symlink()
    assert main(["export", "mnist", "--out", out]) == 1
    assert f"{Path(out)} already holds something" in capsys.readouterr().err


@needs_links
def test_a_decoder_alone_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to("real.onnx")
    for overwrite in ([], ["--overwrite"]):
        assert main(["export", "mnist", "--out", str(tmp_path / "link.onnx"), "--quiet", *overwrite]) == 0
        assert {path.name: path.is_symlink() for path in tmp_path.iterdir()} == {"link.onnx": True, "real.onnx": False}
        vae_gen.load(tmp_path / "real.onnx").check()


@needs_links
@pytest.mark.parametrize("name", ["loop.onnx", "loop"])
def test_a_link_to_itself_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / name
    out.symlink_to(name)
    assert main(["export", "mnist", "--out", str(out), "--overwrite"]) == 1
    assert capsys.readouterr().err == f"Error: cannot write {out}: it is a link that leads to itself\n"
    assert out.is_symlink()


def test_a_bundle_fills_a_disk_of_its_own(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with disk_in_memory(out, "20m"):
        publish(open_run(run), out)
        publish(open_run(run), out, name="other", overwrite=True)
        there = {path.name: path.read_bytes() for path in out.iterdir()}
        assert there.keys() == {"encoder.onnx", "decoder.onnx", "manifest.json"}
        assert Manifest.read(out).description.name == "other"
        remount(out, f"size={shutil.disk_usage(out).used}")
        with pytest.raises(OutputError, match=r"cannot write .*out: No space left on device"):
            publish(open_run(run), out, name="third", overwrite=True)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == there
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_export_left_is_no_hindrance(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out/.out.1234-5678.partial").mkdir(parents=True)
    publish(open_run(run), tmp_path / "out")
    vae_gen.load(tmp_path / "out").check()


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "models" / "mine")
    assert main(["export", str(run), "--out", out, "--name", "spots", "--licence", "CC0-1.0"]) == 0
    errors = capsys.readouterr().err
    assert re.search(r"^encoder.onnx: [\d,]+ -> [\d,]+ multiply-adds an image$", errors, re.MULTILINE)
    folded = "decoder.onnx: 3,299,355 -> 603 multiply-adds an image" in errors  # 603 = 3 * 24 + 24 * 9 + 9 * 35
    assert folded == (run.name == "notebook")
    assert "largest difference from PyTorch: " in errors
    description = Manifest.read(Path(out)).description
    assert (description.name, description.licence) == ("spots", "CC0-1.0")
    assert main(["sample", "--model", out, "--n", "3", "--out", str(tmp_path / "images"), "--quiet"]) == 0
    assert len(list((tmp_path / "images").glob("*.png"))) == 3
    assert main(["export", str(tmp_path), "--out", out, "--overwrite"]) == 1
    assert "is no training run" in capsys.readouterr().err


def test_export_tells_onnxruntime_not_to_report_usage() -> None:
    watch = WATCH + "import vae_gen_export.publish"
    found = subprocess.run([sys.executable, "-c", watch], capture_output=True, text=True, check=True)
    assert found.stdout == "1\n"


def test_a_checkpoint_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no training run: it has no checkpoint\.safetensors"):
        publish(open_run(tmp_path), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_committed_test_models_come_from_their_generator() -> None:
    files = generate.generate()
    assert {name: (MODELS / name).read_bytes() for name in files} == files


def test_the_command_and_the_units_are_those_of_the_run(run: Path) -> None:
    config = TrainConfig.from_preset("notebook", objective="gaussian", free_bits=0.5, beta=2.0, processes=2)
    program, options = "torchrun --nproc-per-node 2 -m vae_gen_train", "--objective gaussian --beta 2.0 --free-bits 0.5"
    assert training_run._command(config, 55_000, None, DataOptions()) == f"{program} --preset notebook {options}"
    about = "--data 'my photos' --channels 1 --skip-bad"
    command = training_run._command(config, 55_000, Path("/home/me/my photos"), DataOptions(channels=1, skip_bad=True))
    assert command == f"{program} --preset notebook {about} {options}"
    for changes, expected in {
        (): "",  # as few pictures have it
        (("steps", 6000),): " --steps 6000",
        (("steps", 6000), ("lr_warmup", 1000)): " --steps 6000 --lr-warmup 1000",
        (("lr_warmup", 1000),): " --lr-warmup 1000",
    }.items():
        few = TrainConfig.from_preset("mlp", 500, **dict(changes))
        command = training_run._command(few, 500, None, DataOptions())
        assert command == f"vae-gen train --preset mlp{expected}"
    units = training_run._metrics(run, 5, config)["units"]
    assert "likelihood of a Gaussian" in units
    assert units.endswith("total: reconstruction + 2 kl")
