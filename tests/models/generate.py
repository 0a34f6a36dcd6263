"""Makes the models that tests run, without the package under test: python tests/models/generate.py

tiny/ is a bundle with 3 latents and images of 3 channels, 5 rows and 4 columns, so that no two sizes that
could be swapped are equal, and no two latents do the same:

    image[c, y, x] = sigmoid(sum over k of w(k, p) z[k] + b(p)),  p = 20 c + 4 y + x
    mean[k] = sum over p of w(k, p) image[p] / 10,  log_var[k] = -1 - k / 4 + image[k]
    w(k, p) = sin(1 + 7 k + 3 p),  b(p) = cos(2 p)

foreign/ holds decoders that other people could bring, good ones and bad ones. The good ones make the pixels of tiny's
decoder, in images of 3 channels, 2 rows and 10 columns, so that only one end of the shape can be channels.
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
SEEN = (3, 2, 10)  # the shape of the foreign ones
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


Nodes = tuple[onnx.NodeProto, ...]


def node(kind: str, *inputs: str, to: str = "image", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [to], **attributes)


def cast(item: str, kind: int, to: str = "image") -> onnx.NodeProto:
    return helper.make_node("Cast", [item], [to], to=kind)


def constant(number: float) -> np.ndarray:
    return np.array(number, np.float32)


def value(name: str, *shape: str | int, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray],
    texts: dict[str, str] | None = None,
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(made, texts or {})
    onnx.checker.check_model(made, full_check=True)
    return made


def metadata(**changes: object) -> dict[str, str]:
    """What a graph of ours says of itself."""
    values = {**DESCRIPTION, "color_mode": "RGB", "schema": 1, **changes}
    return {name: item if isinstance(item, str) else json.dumps(item) for name, item in values.items()}


def decoder(
    batch: str | int = "batch",
    shape: tuple[int, ...] = SEEN,
    texts: dict[str, str] | None = None,
    scale: float = 1.0,
    finish: Nodes = (),
    image: onnx.ValueInfoProto | None = None,
    begin: Nodes = (),
    z: onnx.ValueInfoProto | None = None,
    others: tuple[onnx.ValueInfoProto, ...] = (),
    **constants: np.ndarray,
) -> onnx.ModelProto:
    """Nodes may `begin` with what makes `latents` of the input z, and `finish` with what makes `image` of `pixels`."""
    size = int(np.prod(shape))
    nodes = [
        *begin,
        node("Gemm", "latents" if begin else "z", "weight", "bias", to="logits"),
        node("Sigmoid", "logits", to="flat"),
        node("Reshape", "flat", "shape", to="pixels" if finish else "image"),
        *finish,
    ]
    values = {
        "weight": WEIGHT[:, :size] * np.float32(scale),
        "bias": BIAS[:size],
        "shape": np.array([-1, *shape], np.int64),
        **constants,
    }
    outputs = [image or value("image", batch, *shape), *others]
    return model(nodes, [z or value("z", batch, LATENTS)], outputs, values, texts)


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
    return model(nodes, [value("image", "batch", *SHAPE)], outputs, constants, metadata())


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


def same_images() -> dict[str, onnx.ModelProto]:
    """The images of `plain`, as other graphs have them."""
    floats, doubles, halves = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16
    channels_last = value("image", "batch", 2, 10, 3)
    to_bytes = (
        node("Mul", "pixels", "factor", to="scaled"),
        node("Add", "scaled", "half", to="raised"),
        cast("raised", TensorProto.UINT8, to="bytes"),
        node("Transpose", "bytes", perm=[0, 2, 3, 1]),
    )
    bytes_of = {"factor": constant(255), "half": constant(0.5)}
    byte_image = value("image", "batch", 2, 10, 3, kind=TensorProto.UINT8)
    to_signed = (node("Mul", "pixels", "two", to="twice"), node("Sub", "twice", "one"))
    signed_of = {"two": constant(2), "one": constant(1)}
    as_maps = (node("Reshape", "z", "flat_z", to="latents"),)
    of_maps = {"flat_z": np.array([-1, LATENTS], np.int64)}
    at_run_time = (  # nobody works this shape out beforehand: it depends on z, though it is always the same
        node("ReduceMax", "z", to="largest", keepdims=0),
        node("Mul", "largest", "nothing", to="zero"),
        node("Add", "sizes", "zero", to="floats"),
        cast("floats", TensorProto.INT64, to="found"),
        node("Reshape", "pixels", "found"),
    )
    scale_of_all = (  # of a whole batch: none of its rows is what it would be alone
        helper.make_node("DynamicQuantizeLinear", ["z"], ["z8", "scale", "zero"]),
        node("DequantizeLinear", "z8", "scale", "zero", to="latents"),
    )
    ours = metadata(image_shape=list(SEEN), layout="NHWC", value_range=[0, 255], rows_per_run=1)
    stated = {"value_range": "[-1, 1]", "layout": "NCHW"}
    return {
        "plain": decoder(),
        "ambiguous": decoder(shape=SHAPE),
        "grey": decoder(shape=(12, 5)),
        "nhwc": decoder(finish=(node("Transpose", "pixels", perm=[0, 2, 3, 1]),), image=channels_last),
        "signed": decoder(finish=to_signed, **signed_of),
        "signed-stated": decoder(finish=to_signed, texts=stated, **signed_of),
        "to-255": decoder(finish=(node("Mul", "pixels", "factor"),), factor=constant(255)),
        "bytes": decoder(finish=to_bytes, image=byte_image, **bytes_of),
        "double": decoder(
            begin=(cast("z", floats, to="latents"),),
            z=value("z", "batch", LATENTS, kind=doubles),
            finish=(cast("pixels", doubles),),
            image=value("image", "batch", *SEEN, kind=doubles),
        ),
        "half": decoder(
            begin=(cast("z", floats, to="latents"),),
            z=value("z", "batch", LATENTS, kind=halves),
            finish=(cast("pixels", halves),),
            image=value("image", "batch", *SEEN, kind=halves),
        ),
        "fixed-batch": decoder(batch=4),
        "one-at-a-time": decoder(batch=1),
        "batch-within": decoder(finish=(node("Reshape", "pixels", "one"),), one=np.array([1, *SEEN], np.int64)),
        "maps": decoder(begin=as_maps, z=value("z", "batch", LATENTS, 1, 1), **of_maps),
        "open-sizes": decoder(
            finish=at_run_time,
            image=value("image", "batch", 3, "height", "width"),
            sizes=np.array([-1, *SEEN], np.float32),
            nothing=constant(0),
        ),
        "weights-as-inputs": weights_as_inputs(),
        "several-outputs": decoder(others=(value("logits", "batch", PIXELS),)),
        "scale-of-all": decoder(begin=scale_of_all),
        "ours": decoder(batch=4, texts=ours, finish=to_bytes, image=byte_image, begin=scale_of_all, **bytes_of),
    }


def weights_as_inputs() -> onnx.ModelProto:
    """As converters of old wrote it: every constant is an input too, with a default."""
    made = decoder()
    made.graph.input.extend([value("weight", LATENTS, PIXELS), value("bias", PIXELS)])
    return made


def noise() -> onnx.ModelProto:
    """Another image of the same latents each time."""
    nodes = (node("RandomNormalLike", "pixels", to="noise"), node("Add", "pixels", "noise"))
    return decoder(finish=nodes)


def weights_beside(folder: str, name: str) -> dict[str, bytes]:
    """`plain` in two files, as PyTorch writes it."""
    made = decoder()
    (weight,) = [each for each in made.graph.initializer if each.name == "weight"]
    content = weight.raw_data
    onnx.external_data_helper.set_external_data(weight, f"{name}.data", offset=0, length=len(content))
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    return {f"{folder}/{name}": made.SerializeToString(), f"{folder}/{name}.data": content}


def generate() -> dict[str, bytes]:
    """Every file, by its path."""
    pair = {
        "encoder.onnx": encoder().SerializeToString(),
        "decoder.onnx": decoder(shape=SHAPE, texts=metadata()).SerializeToString(),
    }
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
        "two-inputs": two_inputs,
        "flat-output": flat,
        "two-channels": decoder(shape=(2, 5, 6)),
        "other-rows": half,
        "not-finite": decoder(scale=float("nan")),
        "noise": noise(),
        **same_images(),
    }
    files = {f"tiny/{name}": content for name, content in pair.items()}
    files["tiny/manifest.json"] = manifest(pair).encode()
    files |= weights_beside("foreign", "weights-beside.onnx")
    return files | {f"foreign/{name}.onnx": made.SerializeToString() for name, made in foreign.items()}


if __name__ == "__main__":
    for path, content in generate().items():
        (HERE / path).parent.mkdir(exist_ok=True)
        (HERE / path).write_bytes(content)
