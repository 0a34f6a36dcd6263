"""Writing into a graph what it is: metadata, doc strings, and the versions that old engines accept."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from importlib import metadata

import onnx
from vae_gen.manifest import Description
from vae_gen.reading import LAYOUTS

from vae_gen_export.simplify.view import IR_VERSION


def bundle_id(*models: onnx.ModelProto) -> str:
    """An id that follows from the content of the graphs."""
    digest = hashlib.sha256()
    for model in models:
        digest.update(model.SerializeToString(deterministic=True))
    return digest.hexdigest()[:16]


def stamp(model: onnx.ModelProto, description: Description) -> onnx.ModelProto:
    """A copy of `model`, an encoder or a decoder, that says what it is."""
    stamped = deepcopy(model)
    stamped.ir_version = IR_VERSION
    stamped.producer_name = "vae-gen"
    stamped.producer_version = metadata.version("vae-gen")
    stamped.graph.name = description.name
    stamped.doc_string = stamped.graph.doc_string = _doc(model.graph, description)
    onnx.helper.set_model_props(stamped, description.as_metadata())
    return stamped


def _doc(graph: onnx.GraphProto, description: Description) -> str:
    dim = graph.input[0].type.tensor_type.shape.dim[0]
    batch = dim.dim_param or str(dim.dim_value)
    if graph.input[0].name == "image":
        text = (
            "Encoder of a variational autoencoder. "
            "Input `image`: float32 [batch, channels, height, width] in [0, 1]. Outputs `mean` and `log_var`: "
            "float32 [batch, latent_dim], the posterior q(z | image) = N(mean, exp(log_var))."
        )
    else:
        bytes_out = graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
        kind = "uint8" if bytes_out else "float32"
        pixels = (
            f"{kind} {LAYOUTS[description.layout]} in [{', '.join(f'{each:g}' for each in description.value_range)}]"
        )
        text = (
            "Decoder of a variational autoencoder. Input `z`: float32 [batch, latent_dim]; draw it from the standard "
            f"normal distribution to make new images. Output `image`: {pixels}."
        )
        if description.rows_per_run == 1:
            text += " Its rows depend on each other in a batch: run it one row at a time."
    return text.replace("[batch", f"[{batch}")
