"""Writing into a graph what it is: metadata, doc strings, and the versions that old engines accept."""

from __future__ import annotations

import hashlib
from importlib import metadata

import onnx
from vae_gen.manifest import DECODER, ENCODER, Description

IR_VERSION = 8  # what onnxruntime has read since 1.10; later versions add nothing that these graphs use

DOCS = {
    ENCODER: "Encoder of a variational autoencoder. "
    "Input `image`: float32 [batch, channels, height, width] in [0, 1]. "
    "Outputs `mean` and `log_var`: float32 [batch, latent_dim], the posterior q(z | image) = N(mean, exp(log_var)).",
    DECODER: "Decoder of a variational autoencoder. "
    "Input `z`: float32 [batch, latent_dim]; draw it from the standard normal distribution to make new images. "
    "Output `image`: float32 [batch, channels, height, width] in [0, 1].",
}


def bundle_id(*models: onnx.ModelProto) -> str:
    """An id that follows from the content of the graphs."""
    digest = hashlib.sha256()
    for model in models:
        digest.update(model.SerializeToString(deterministic=True))
    return digest.hexdigest()[:16]


def stamp(model: onnx.ModelProto, description: Description, doc: str) -> onnx.ModelProto:
    """A copy of `model` that says what it is."""
    stamped = onnx.ModelProto()
    stamped.CopyFrom(model)
    stamped.ir_version = IR_VERSION
    stamped.producer_name = "vae-gen"
    stamped.producer_version = metadata.version("vae-gen")
    stamped.graph.name = description.name
    stamped.doc_string = stamped.graph.doc_string = doc
    onnx.helper.set_model_props(stamped, description.as_metadata())
    return stamped
