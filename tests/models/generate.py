"""Makes the models that tests run, without the package under test: python tests/models/generate.py

tiny/ is a bundle with 3 latents and images of 3 channels, 5 rows and 4 columns, so that no two sizes that
could be swapped are equal, and no two latents do the same:

    image[c, y, x] = sigmoid(sum over k of w(k, p) z[k] + b(p)),  p = 20 c + 4 y + x
    mean[k] = sum over p of w(k, p) image[p] / 10,  log_var[k] = -1 - k / 4 + image[k]
    w(k, p) = sin(1 + 7 k + 3 p),  b(p) = cos(2 p)

foreign/ holds decoders that other people could bring, good ones and bad ones.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
LATENTS, SHAPE, PIXELS = 3, (3, 5, 4), 60
ID = "0123456789abcdef"

k, p = np.arange(LATENTS)[:, None], np.arange(PIXELS)[None]
WEIGHT = np.sin(1 + 7 * k + 3 * p).astype(np.float32)  # [latent, pixel]
BIAS = np.cos(2 * p[0]).astype(np.float32)
DESCRIPTION = {
    "name": "tiny",
    "bundle_id": ID,
    "latent_dim": LATENTS,
    "image_shape": list(SHAPE),
    "licence": "MIT",
    "prior": "standard normal",
    "value_range": [0.0, 1.0],
    "latent_mean": [0.0, 0.125, -0.25],
    "latent_std": [1.0, 1.5, 0.75],
    "latent_kl": [2.0, 1.25, 0.5],
}


def value(name: str, *shape: str | int, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray],
    metadata: bool = False,
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if metadata:
        values = {**DESCRIPTION, "color_mode": "RGB", "schema": 1}
        texts = {name: item if isinstance(item, str) else json.dumps(item) for name, item in values.items()}
        helper.set_model_props(made, texts)
    onnx.checker.check_model(made, full_check=True)
    return made


def decoder(
    batch: str | int = "batch", shape: tuple[int, ...] = SHAPE, metadata: bool = True, scale: float = 1.0
) -> onnx.ModelProto:
    pixels = int(np.prod(shape))
    nodes = [
        helper.make_node("Gemm", ["z", "weight", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["image"]),
    ]
    constants = {
        "weight": WEIGHT[:, :pixels] * np.float32(scale),
        "bias": BIAS[:pixels],
        "shape": np.array([-1, *shape], np.int64),
    }
    return model(nodes, [value("z", batch, LATENTS)], [value("image", batch, *shape)], constants, metadata)


def encoder() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "zero"], ["mean"], transB=1),
        helper.make_node("Gemm", ["flat", "pick", "offset"], ["log_var"], transB=1),
    ]
    constants = {
        "weight": WEIGHT / np.float32(10),
        "zero": np.zeros(LATENTS, np.float32),
        "pick": np.eye(LATENTS, PIXELS, dtype=np.float32),
        "offset": (-1 - np.arange(LATENTS) / 4).astype(np.float32),
    }
    outputs = [value("mean", "batch", LATENTS), value("log_var", "batch", LATENTS)]
    return model(nodes, [value("image", "batch", *SHAPE)], outputs, constants, metadata=True)


def manifest(files: dict[str, bytes]) -> str:
    values = {
        "schema": 1,
        "description": DESCRIPTION,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "training": {"steps": 0},
        "metrics": {},
        "export": {},
    }
    return json.dumps(values, indent=2) + "\n"


def generate() -> dict[str, bytes]:
    """Every file, by its path."""
    pair = {"encoder.onnx": encoder().SerializeToString(), "decoder.onnx": decoder().SerializeToString()}
    two_inputs = model(
        [helper.make_node("Add", ["z", "y"], ["sum"]), helper.make_node("Reshape", ["sum", "shape"], ["image"])],
        [value("z", "batch", LATENTS), value("y", "batch", LATENTS)],
        [value("image", "batch", 1, 1, LATENTS)],
        {"shape": np.array([-1, 1, 1, LATENTS], np.int64)},
    )
    flat = model([helper.make_node("Sigmoid", ["z"], ["image"])], [value("z", "b", 3)], [value("image", "b", 3)], {})
    half = model(  # declares a row of 4 values for a row of 4; makes rows of 8, half as many
        [
            helper.make_node("Concat", ["z", "z"], ["twice"], axis=1),
            helper.make_node("Reshape", ["twice", "shape"], ["image"]),
        ],
        [value("z", "batch", 4)],
        [value("image", "rows", 1, 4, 4)],
        {"shape": np.array([-1, 1, 4, 4], np.int64)},
    )
    integers = model(
        [
            helper.make_node("Cast", ["z"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["floats", "shape"], ["image"]),
        ],
        [value("z", "batch", 4, kind=TensorProto.INT64)],
        [value("image", "batch", 1, 2, 2)],
        {"shape": np.array([-1, 1, 2, 2], np.int64)},
    )
    foreign = {
        "integers": integers,
        "plain": decoder(metadata=False),
        "two-inputs": two_inputs,
        "flat-output": flat,
        "fixed-batch": decoder(batch=2, metadata=False),
        "two-channels": decoder(shape=(2, 5, 6), metadata=False),
        "other-rows": half,
        "not-finite": decoder(metadata=False, scale=float("nan")),
    }
    files = {f"tiny/{name}": content for name, content in pair.items()}
    files["tiny/manifest.json"] = manifest(pair).encode()
    return files | {f"foreign/{name}.onnx": made.SerializeToString() for name, made in foreign.items()}


if __name__ == "__main__":
    for path, content in generate().items():
        (HERE / path).parent.mkdir(exist_ok=True)
        (HERE / path).write_bytes(content)
