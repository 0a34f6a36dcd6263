"""Variants of the default model and of small networks: half the size, bytes, a fixed batch."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import vae_gen
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn
from vae_gen.bundles import shipped
from vae_gen.cli import main
from vae_gen.errors import BundleError, UsageError
from vae_gen.images import to_uint8
from vae_gen.manifest import Manifest
from vae_gen_export import variants
from vae_gen_export.graphs import trace
from vae_gen_export.publish import publish
from vae_gen_export.simplify import simplify
from vae_gen_export.sources.bundle import open_source
from vae_gen_export.sources.own_module import open_module
from vae_gen_export.sources.training_run import open_run
from vae_gen_export.variants import Variant, conversions

from tests.export.test_own_module import HERE
from tests.export.test_own_module import Z as SMALL_Z
from tests.export.test_publish import run  # noqa: F401
from tests.export.variants_of_mnist import Z, decoder_size, pixels  # noqa: F401
from tests.train.conftest import small_data  # noqa: F401

IMAGES = np.random.default_rng(0).random((20, 1, 28, 28)).astype(np.float32)


def exported(out: Path, *options: str) -> vae_gen.Model:
    assert main(["export", "mnist", "--out", str(out), "--quiet", *options]) == 0
    return vae_gen.load(out)


def operations(folder: Path) -> list[str]:
    return [node.op_type for node in onnx.load(folder / "decoder.onnx").graph.node]


def test_fp16_is_half_the_file_and_float32_outside(tmp_path: Path, pixels: np.ndarray) -> None:  # noqa: F811
    model = exported(tmp_path / "half", "--precision", "fp16")
    for name in ("encoder.onnx", "decoder.onnx"):
        ours, theirs = tmp_path / "half" / name, shipped()["mnist"] / name
        assert 0.5 < ours.stat().st_size / theirs.stat().st_size < 0.51
        graph = onnx.load(ours).graph
        values = (*graph.input, *graph.output)
        assert {value.type.tensor_type.elem_type for value in values} == {TensorProto.FLOAT}
        assert {value.type.tensor_type.shape.dim[0].dim_param for value in values} == {"batch"}
    difference = np.abs(model.decode(Z) - pixels)
    assert 1e-6 < difference.mean() < 1e-3
    assert difference.max() < 0.1
    for found, expected in zip(model.encode(IMAGES), vae_gen.load("mnist").encode(IMAGES), strict=True):
        np.testing.assert_allclose(found, expected, atol=0.05)
    assert model.manifest is not None
    about = model.manifest.export
    assert about["variant"] == {"precision": "fp16"}
    assert about["tolerance"]["image"]["mean"] == pytest.approx(1e-3, rel=0.02)
    assert 0 < about["mean_difference"]["image"] < 1e-3
    assert 0 < about["parity_with_source_float32"]["image"] < 0.1


def test_a_variant_carries_what_its_source_says(tmp_path: Path) -> None:
    made = exported(tmp_path / "mine", "--batch", "2").manifest
    source = Manifest.read(shipped()["mnist"])
    assert made is not None
    assert (made.training, made.metrics) == (source.training, source.metrics)
    ours, theirs = made.description, source.description
    assert (ours.licence, ours.latent_std, ours.name) == (theirs.licence, theirs.latent_std, "mine")
    assert ours.bundle_id != theirs.bundle_id
    assert made.export["made_from"]["bundle_id"] == theirs.bundle_id
    assert made.export["made_from"]["decoder_sha256"] == source.sha256["decoder.onnx"]


@pytest.mark.parametrize("options", [[], ["--batch", "1"], ["--batch", "7"]])
def test_uint8_is_the_very_rounding_of_the_package(options: list[str], tmp_path: Path, pixels: np.ndarray) -> None:  # noqa: F811
    model = exported(tmp_path / "bytes", "--uint8", *options)
    assert (model.description.layout, model.description.value_range) == ("NHWC", (0, 255))
    # A graph of another batch may sum in another order; what it makes before it rounds is then the reference.
    floats = exported(tmp_path / "floats", *options).decode(Z) if options else pixels
    np.testing.assert_array_equal(model.decode_bytes(Z), to_uint8(floats))
    np.testing.assert_allclose(model.decode(Z), pixels, atol=0.5 / 255 + 1e-5)
    session = onnxruntime.InferenceSession(tmp_path / "bytes/decoder.onnx")
    batch = int(options[1]) if options else 5
    (output,) = session.run(["image"], {"z": Z[:batch]})
    assert (output.shape, output.dtype) == ((batch, 28, 28, 1), np.uint8)
    # Behind a sigmoid there is nothing to clip, and nothing linear that could take the factor.
    assert operations(tmp_path / "bytes")[-7:] == ["Reshape", "Sigmoid", "Mul", "Add", "Transpose", "Floor", "Cast"]
    assert session.get_modelmeta().description.endswith(
        f"Output `image`: uint8 [{options[1] if options else 'batch'}, height, width, channels] in [0, 255]."
    )


def test_uint8_of_a_colour_image_that_is_not_square(tmp_path: Path) -> None:
    source = open_module(HERE + "Halves", None, 3)
    publish(source, tmp_path / "bytes", variant=Variant(uint8=True))
    expected = np.floor(source.reference("decoder.onnx", SMALL_Z)["image"] * 255 + 0.5).astype(np.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "bytes/decoder.onnx")
    (output,) = session.run(["image"], {"z": SMALL_Z})
    np.testing.assert_array_equal(output, expected.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(vae_gen.load(tmp_path / "bytes").decode_bytes(SMALL_Z), expected)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([nn.Linear(8, 60), nn.Unflatten(1, (3, 5, 4))], ["Gemm", "Reshape"]),
        ([nn.Linear(8, 32), nn.Unflatten(1, (4, 4, 2)), nn.ConvTranspose2d(4, 3, (2, 3))], ["Gemm", "Reshape"]),
        (
            [nn.Linear(8, 60), nn.ReLU(), nn.Unflatten(1, (3, 5, 4)), nn.Conv2d(3, 3, 3, padding=1)],
            ["Conv", "Transpose"],
        ),
    ],
)
def test_uint8_becomes_part_of_a_linear_layer(layers: list[nn.Module], expected: list[str]) -> None:
    torch.manual_seed(0)
    for layer in layers:
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            layer.reset_parameters()
    network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), *layers, nn.Hardtanh(0, 1)).eval()
    graph = Variant(uint8=True).extend("decoder.onnx", trace(network, torch.rand(2, 3), "z", ["image"]))
    made, _ = simplify(graph)
    assert [node.op_type for node in made.graph.node][-5:] == [*expected, "Clip", "Floor", "Cast"]
    z = np.random.default_rng(0).standard_normal((500, 3)) * 3
    with torch.no_grad():
        exact = network.double()(torch.from_numpy(z)).numpy()
    assert 0.05 < (exact == 0).mean() < 0.9  # some are clipped
    made.ir_version = 8
    (found,) = onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"z": z.astype(np.float32)})
    levels = np.floor(exact * 255 + 0.5).transpose(0, 2, 3, 1)
    assert found.shape == (500, 5, 4, 3)
    assert np.abs(found - levels).max() <= 1  # float32 rounds some that lie just between two
    assert (found != levels).mean() <= 1e-4


def test_uint8_behind_a_layer_that_clips_nothing() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 60).eval()
    network = nn.Sequential(nn.Softmax(1), layer, nn.Unflatten(1, (3, 5, 4))).eval()
    with torch.no_grad():
        layer.weight.uniform_(0, 1)
        layer.bias.zero_()
    made = Variant(uint8=True).extend("decoder.onnx", trace(network, torch.rand(2, 3), "z", ["image"]))
    z = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
    with torch.no_grad():
        exact = network.double()(torch.from_numpy(z).double()).numpy()
    (found,) = ReferenceEvaluator(made).run(None, {"z": z})
    np.testing.assert_array_equal(found, np.floor(exact * 255 + 0.5).transpose(0, 2, 3, 1))


def test_a_fixed_batch_is_in_both_graphs_and_in_their_shapes(tmp_path: Path, pixels: np.ndarray) -> None:  # noqa: F811
    model = exported(tmp_path / "four", "--batch", "4")
    for name in ("encoder.onnx", "decoder.onnx"):
        graph = onnx.load(tmp_path / "four" / name).graph
        for value in (*graph.input, *graph.output):
            assert value.type.tensor_type.shape.dim[0].dim_value == 4
        shapes = [node.input[1] for node in graph.node if node.op_type == "Reshape"]
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        assert shapes
        assert all(constants[shape][0] == 4 for shape in shapes)
    np.testing.assert_allclose(model.decode(Z[:6]), pixels[:6], atol=1e-5)
    np.testing.assert_allclose(model.encode(IMAGES)[0], vae_gen.load("mnist").encode(IMAGES)[0], atol=1e-5)


def test_variants_combine_in_a_decoder_alone_and_are_sampled(tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    model = exported(out, "--precision", "fp16", "--uint8", "--batch", "3")
    assert out.stat().st_size < 0.52 * decoder_size(shipped()["mnist"])
    arguments = ["sample", "--n", "8", "--seed", "1", "--quiet", "--model"]
    assert main([*arguments, str(out), "--out", str(tmp_path / "small.npy")]) == 0
    assert main([*arguments, "mnist", "--out", str(tmp_path / "plain.npy")]) == 0
    small, plain = (np.load(tmp_path / f"{name}.npy").astype(int) for name in ("small", "plain"))
    assert small.shape == plain.shape == (8, 1, 28, 28)
    assert 0 < np.abs(small - plain).mean() < 0.3  # of 255 levels
    assert model.rows_per_run == 3


def test_a_training_run_has_variants_too(run: Path, tmp_path: Path) -> None:  # noqa: F811
    manifest = publish(open_run(run), tmp_path / "two", variant=Variant(uint8=True, batch=2))
    assert manifest.export["variant"] == {"uint8": True, "batch": 2}
    assert manifest.export["parity_with_pytorch_float64"]["image"] <= 0.0020  # half of 1 / 255, in two digits
    assert "made_from" not in manifest.export


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quantize", "int8", "--precision", "fp16"], "leaves no weights for --precision fp16"),
        (["--quantize", "int8", "--batch", "2"], "--batch 2 does not go with --quantize int8"),
        (["--batch", "0"], "0 is not in the range 1<=x<=4096"),
    ],
)
def test_variants_that_make_no_sense_together(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "mnist", "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("values", [{"precision": "fp8"}, {"quantize": "int4"}, {"batch": 0}])
def test_values_that_no_variant_has(values: dict[str, object]) -> None:
    (name,) = values
    with pytest.raises(UsageError, match=f"^{name} is "):
        Variant(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [["--precision", "fp16"], ["--uint8"], ["--batch", "2"]])
def test_a_variant_of_a_variant_is_refused(options: list[str], tmp_path: Path) -> None:
    exported(tmp_path / "first.onnx", *options)
    with pytest.raises(BundleError, match=r"first\.onnx is a variant already"):
        open_source(tmp_path / "first.onnx")


def test_a_decoder_alone_makes_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported(tmp_path / "one.onnx")
    assert main(["export", str(tmp_path / "one.onnx"), "--out", str(tmp_path / "two")]) == 2
    assert "one.onnx is a decoder alone; give --out NAME.onnx" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "one.onnx"), "--out", str(tmp_path / "two.onnx"), "--quiet"]) == 0
    one, two = (vae_gen.load(tmp_path / name) for name in ("one.onnx", "two.onnx"))
    np.testing.assert_array_equal(one.decode(Z), two.decode(Z))


def test_a_bundle_here_that_is_called_as_one_that_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shipped()["notebook"], "mnist")
    assert main(["export", "./mnist", "--batch", "1", "--out", "here.onnx", "--quiet"]) == 0
    assert vae_gen.load("here.onnx").latent_dim == 8
    assert main(["export", "mnist", "--batch", "1", "--out", "shipped.onnx"]) == 0
    assert "mnist is the model that ships; ./mnist is the one here" in capsys.readouterr().err
    assert vae_gen.load("shipped.onnx").latent_dim == 16


@pytest.mark.parametrize("out", ["mnist", "my bundles/eight"])
def test_the_command_that_is_advised_takes_what_was_exported(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", "notebook", "--out", out]) == 0
    advised = capsys.readouterr().err.partition("next: vae-gen ")[2]
    assert main([*shlex.split(advised), "--seed", "1", "--n", "1"]) == 0
    made_by = json.loads(Path("NEW_FOLDER/manifest.json").read_text())["decoder_sha256"]
    assert made_by == vae_gen.load(Path(out)).decoder_sha256


@pytest.mark.parametrize("option", ["--name", "--licence", "--out"])
def test_what_is_no_text_names_no_model(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", "notebook", "--out", "a", option, "a\udcff"]) == 1
    name = option[2:].replace("out", "name")
    assert f"Error: {name} is 'a\\udcff'; it has bytes that are no text, choose another\n" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def coarse(graph: onnx.ModelProto) -> onnx.ModelProto:
    made = conversions.with_half_weights(graph)
    for tensor in made.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float16:
            tensor.CopyFrom(numpy_helper.from_array(np.round(values * 8) / np.float16(8), tensor.name))
    return made


def cut(graph: onnx.ModelProto) -> onnx.ModelProto:
    made = conversions.with_byte_pixels(graph)
    for tensor in made.graph.initializer:
        if tensor.name == "image_add_by_0.5":
            tensor.CopyFrom(numpy_helper.from_array(np.array(0.48, np.float32), tensor.name))
    return made


@pytest.mark.parametrize(
    ("name", "form", "variant"),
    [
        ("with_half_weights", coarse, Variant("fp16")),
        ("with_byte_pixels", cut, Variant(uint8=True)),
    ],
)
def test_a_variant_that_is_not_exact_enough_is_not_written(
    name: str, form: object, variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, name, form)
    with pytest.raises(BundleError, match=r"differs from the model that it is made from by .* is allowed"):
        publish(open_source("mnist"), tmp_path / "out", variant=variant)
    assert list(tmp_path.iterdir()) == []


def test_a_fixed_batch_pads_transposed_convolutions_evenly() -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 8, (3, 4), (2, 3), (1, 2), (1, 2)).eval()
    graph = trace(layer, torch.rand(2, 4, 5, 6), "x", ["y"])
    fixed = conversions.with_fixed_batch(graph, 3)
    before, after = (onnx.helper.get_node_attr_value(each.graph.node[0], "pads") for each in (graph, fixed))
    assert (before, after) == ([1, 2, 0, 0], [1, 2, 1, 2])
    x = torch.rand(3, 4, 5, 6)
    (found,) = ReferenceEvaluator(fixed).run(None, {"x": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, layer.double()(x.double()).numpy(), atol=1e-5)


def test_a_fixed_batch_leaves_no_shape_to_be_computed() -> None:
    nodes = [
        helper.make_node("Shape", ["z"], ["shape"], end=1),
        helper.make_node("Concat", ["shape", "sizes"], ["whole"], axis=0),
        helper.make_node("Reshape", ["z", "whole"], ["image"]),
    ]
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 2, 3])],
        [numpy_helper.from_array(np.array([1, 2, 3]), "sizes")],
    )
    fixed = conversions.with_fixed_batch(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)]), 5)
    assert [node.op_type for node in fixed.graph.node] == ["Reshape"]
    assert [numpy_helper.to_array(tensor).tolist() for tensor in fixed.graph.initializer] == [[5, 1, 2, 3]]


def test_weights_too_large_for_float16_stay() -> None:
    layer = nn.Linear(3, 2).eval()
    with torch.no_grad():
        layer.weight[0, 0] = 1e5
    half = conversions.with_half_weights(trace(layer, torch.rand(2, 3), "x", ["y"]))
    (weight,) = [tensor for tensor in half.graph.initializer if len(tensor.dims) == 2]
    assert numpy_helper.to_array(weight).dtype == np.float32


def test_only_matrices_and_kernels_are_halved() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(24, 3)).eval()
    half = conversions.with_half_weights(trace(network, torch.rand(2, 1, 5, 6), "x", ["y"]))
    weights = [numpy_helper.to_array(tensor) for tensor in half.graph.initializer]
    kinds = {values.shape: values.dtype for values in weights if values.dtype != np.int64}
    assert kinds == {(2, 1, 3, 3): np.float16, (2,): np.float32, (3, 24): np.float16, (3,): np.float32}
