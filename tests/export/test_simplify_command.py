"""vae-gen simplify, as its user calls it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import vae_gen_export.simplify
from onnx import helper, numpy_helper
from vae_gen.cli import main

MODELS = Path(__file__).parents[2] / "models"


def save(path: Path, *, kind: int = onnx.TensorProto.FLOAT) -> Path:
    """y = relu(x up down + 1) + 0 * nobody, written the long way."""
    random = np.random.default_rng(0)
    constants = {"up": random.standard_normal((6, 50)), "down": random.standard_normal((50, 4)), "one": np.ones(4)}
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["wide"]),
        helper.make_node("MatMul", ["wide", "down"], ["narrow"]),
        helper.make_node("Add", ["narrow", "one"], ["shifted"]),
        helper.make_node("Relu", ["shifted"], ["y"]),
    ]
    tensors = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in constants.items()]
    inputs = [helper.make_tensor_value_info("x", kind, ["batch", 6])]
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 4])]
    graph = helper.make_graph(nodes, "long", inputs, outputs, tensors, doc_string="a long way")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"licence": "MIT"})
    onnx.save(model, path)
    return path


def outputs(path: Path, x: np.ndarray) -> np.ndarray:
    (y,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    return np.asarray(y)


def test_the_table_says_what_was_folded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = save(tmp_path / "in.onnx"), tmp_path / "new" / "out.onnx"
    assert main(["simplify", str(source), str(target)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "MatMul MatMul Add -> Gemm: 504 -> 24 multiply-adds"
    table = {line.split()[0]: line.split()[1:] for line in lines[3:]}
    assert table == {
        "bytes": [f"{source.stat().st_size:,}", f"{target.stat().st_size:,}"],
        "nodes": ["4", "2"],
        "multiply-adds": ["504", "24"],
    }
    x = np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32)
    np.testing.assert_allclose(outputs(target, x), outputs(source, x), rtol=1e-5, atol=1e-5)
    small = onnx.load(target)
    assert (small.graph.doc_string, small.ir_version, small.opset_import[0].version) == ("a long way", 8, 17)
    assert [(item.key, item.value) for item in small.metadata_props] == [("licence", "MIT")]


def test_json_is_all_that_is_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save(tmp_path / "in.onnx")
    assert main(["simplify", str(source), str(tmp_path / "out.onnx"), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["multiply_adds_before"], values["multiply_adds_after"]) == (504, 24)
    assert (values["nodes_before"], values["nodes_after"]) == (4, 2)
    assert values["bytes_before"] == source.stat().st_size
    assert 0 < values["largest_difference"] < 1e-6
    assert values["rewrites"][0]["before"] == ["MatMul", "MatMul", "Add"]
    assert main(["simplify", str(source), str(tmp_path / "quiet.onnx"), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_graph_that_does_not_agree_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(model: onnx.ModelProto, fold: bool) -> tuple[onnx.ModelProto, vae_gen_export.simplify.Simplification]:
        model, what = simplify(model, fold)
        (bias,) = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 1]
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(1e-3), bias.name))
        return model, what

    simplify = vae_gen_export.simplify.simplify
    monkeypatch.setattr(vae_gen_export.simplify, "simplify", spoilt)
    source = save(tmp_path / "in.onnx")
    assert main(["simplify", str(source), str(tmp_path / "out.onnx")]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


@pytest.mark.parametrize("large", [300, 3000])
def test_a_graph_that_folding_makes_less_exact_is_only_tidied(
    large: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """y = sigmoid((relu(x a + large) - large) b): folded, large * b is taken off only from the sum."""
    random = np.random.default_rng(0)
    constants = {
        "a": random.standard_normal((6, 50)),
        "b": random.standard_normal((50, 60)),
        "large": np.float64(large),
    }
    text = """<ir_version: 8, opset_import: ["": 17]> agraph (float[n, 6] x) => (float[n, 60] y) {
        h = MatMul(x, a) up = Add(h, large) passed = Relu(up) down = Sub(passed, large) unused = Tanh(h)
        sum = MatMul(down, b) same = Identity(sum) y = Sigmoid(same)
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.float32(values), name) for name, values in constants.items()
    )
    source, target = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(model, source)
    assert main(["simplify", str(source), str(target), "--json"]) == 0
    said = capsys.readouterr()
    assert re.search(r"folded, the graph would differ from .*in\.onnx by .*e-.*, so it is only tidied\n", said.err)
    values = json.loads(said.out)
    assert values["rewrites"] == []
    assert values["multiply_adds_before"] == values["multiply_adds_after"]
    operations = [node.op_type for node in onnx.load(target).graph.node]
    assert operations == ["MatMul", "Add", "Relu", "Sub", "MatMul", "Sigmoid"]
    x = random.standard_normal((5, 6)).astype(np.float32)
    np.testing.assert_allclose(outputs(target, x), outputs(source, x), atol=1e-5)


@pytest.mark.parametrize(("spoilt", "where"), [("weight", r"( on x \[1, 6\])?: "), ("bias", r" on x \[1, 6\]: ")])
def test_a_simplified_graph_that_cannot_run_is_called_that(
    spoilt: str, where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shortened(model: onnx.ModelProto, fold: bool) -> tuple[onnx.ModelProto, vae_gen_export.simplify.Simplification]:
        model, what = simplify(model, fold)
        (tensor,) = [each for each in model.graph.initializer if len(each.dims) == (2 if spoilt == "weight" else 1)]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[..., :-1], tensor.name))
        return model, what

    simplify = vae_gen_export.simplify.simplify
    monkeypatch.setattr(vae_gen_export.simplify, "simplify", shortened)
    source = save(tmp_path / "in.onnx")
    assert main(["simplify", str(source), str(tmp_path / "out.onnx")]) == 1
    error = capsys.readouterr().err
    said = f"in.onnx and what it became cannot be compared: onnxruntime cannot run the simplified graph{where}"
    assert re.search(said, error)
    assert error.endswith("; nothing was written\n")
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


def test_a_file_that_is_there_is_replaced_only_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save(tmp_path / "in.onnx")
    before = source.read_bytes()
    assert main(["simplify", str(source), str(source)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert source.read_bytes() == before
    assert main(["simplify", str(source), str(source), "--overwrite"]) == 0
    assert f"{len(before):,}" in capsys.readouterr().out
    assert len(onnx.load(source).graph.node) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read"), (b"no graph at all", "is no valid ONNX graph"), (b"", "is no valid ONNX graph")],
)
def test_what_is_no_graph_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, message: str
) -> None:
    source = tmp_path / "in.onnx"
    if content is not None:
        source.write_bytes(content)
    assert main(["simplify", str(source), str(tmp_path / "out.onnx")]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert str(source) in error
    assert not (tmp_path / "out.onnx").exists()


def test_what_ships_is_as_simple_as_it_gets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for graph in sorted(MODELS.glob("*/*.onnx")):
        shutil.copy(graph, tmp_path / "in.onnx")
        assert main(["simplify", str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx"), "--overwrite", "--json"]) == 0
        values = json.loads(capsys.readouterr().out)
        assert values["rewrites"] == []
        assert values["nodes_after"] == values["nodes_before"]


def test_a_graph_that_draws_random_numbers_cannot_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["noise"]), helper.make_node("Add", ["x", "noise"], ["y"])]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 6]) for name in "xy"]
    graph = helper.make_graph(nodes, "random", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "in.onnx")
    assert main(["simplify", str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx")]) == 1
    assert "draws random numbers" in capsys.readouterr().err
    assert not (tmp_path / "out.onnx").exists()


def test_images_of_any_size_and_yes_or_no_are_tried(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["small"]),
        helper.make_node("Neg", ["small"], ["negative"]),
        helper.make_node("Where", ["wanted", "small", "negative"], ["y"]),
    ]
    values = [
        helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 2, "height", "width"]),
        helper.make_tensor_value_info("wanted", onnx.TensorProto.BOOL, [1]),
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 3, "h", "w"]),
    ]
    kernel = numpy_helper.from_array(np.ones((3, 2, 5, 5), np.float32), "kernel")
    graph = helper.make_graph(nodes, "any", values[:2], values[2:], [kernel])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "in.onnx")
    assert main(["simplify", str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx"), "--quiet"]) == 0
