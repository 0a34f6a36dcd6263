"""A bundle, or a decoder alone, as the source of another: for its variants, without the run that it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from vae_gen.bundles import as_typed, find
from vae_gen.errors import BundleError, DataError, UsageError
from vae_gen.files import is_there
from vae_gen.graph import Graph
from vae_gen.manifest import DECODER, ENCODER, MANIFEST
from vae_gen.model import load
from vae_gen_train.checkpoint import FILE_NAME as CHECKPOINT

from vae_gen_export.plain import OPSET, clean
from vae_gen_export.simplify.view import opset_of
from vae_gen_export.sources import Exact, Rows, Source
from vae_gen_export.sources.training_run import open_run


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle(Source):
    """Graphs as they lie in files. What they compute in onnxruntime is what others made of them must compute."""

    paths: dict[str, Path]
    reference_name: ClassVar[str] = "the model that it is made from"
    reference_key: ClassVar[str] = "source_float32"

    def graph(self, file: str) -> onnx.ModelProto:
        if file not in self.paths:
            raise UsageError(f"{self.paths[DECODER]} is a decoder alone; give --out NAME.onnx")
        return clean(onnx.load(self.paths[file]))

    def reference(self, file: str, rows: Rows) -> dict[str, Exact]:
        graph = Graph(self.paths[file], threads=1)
        outputs = (output.astype(np.float64) for output in graph.run(rows))
        return dict(zip(graph.output_shapes, outputs, strict=True))


def open_source(name: str | Path) -> Source:
    """The training run in the directory `name`, or the bundle or decoder that `--model` takes by that name.

    Raises DataError or BundleError if there is none, or if it is a variant already.
    """
    if name and is_there(Path(name) / CHECKPOINT):
        return open_run(Path(name))
    try:
        path = find(name)
    except BundleError as error:
        raise BundleError(f"{error}. Nor is it the directory of a training run") from error
    if path.is_dir() and not (path / MANIFEST).is_file():
        raise DataError(f"{path} is no training run: it has no {CHECKPOINT}; and no bundle: it has no {MANIFEST}")
    return open_bundle(path)


def open_bundle(path: Path) -> Bundle:
    """The bundle in the directory `path`, or the decoder in the file `path`. Raises BundleError."""
    if path.is_file() and "bundle_id" not in Graph(path, threads=1).metadata:
        raise BundleError(
            f"{path} was not made by vae-gen export; it makes images as it is: vae-gen sample --model {as_typed(path)}"
        )
    model = load(path)
    model.check()
    about = model.description
    paths = {file: path / file for file in (ENCODER, DECODER)} if path.is_dir() else {DECODER: path}
    if about.layout != "NCHW" or not all(_is_plain(onnx.load(each)) for each in paths.values()):
        raise BundleError(f"{path} is a variant already; give the run or the bundle that it was made from")
    return Bundle(
        paths=paths,
        latent_dim=about.latent_dim,
        image_shape=about.image_shape,
        licence=about.licence,
        latent_mean=about.latent_mean,
        latent_std=about.latent_std,
        latent_kl=about.latent_kl,
        training=model.manifest.training if model.manifest else {},
        metrics=model.manifest.metrics if model.manifest else {},
        made_from={"name": about.name, "bundle_id": about.bundle_id, "decoder_sha256": model.decoder_sha256},
    )


def _is_plain(model: onnx.ModelProto) -> bool:
    """Whether all is in float32, with a free batch axis, in ONNX's own operators."""
    usual = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64)
    values = (*model.graph.input, *model.graph.output)
    return (
        all(tensor.data_type in usual for tensor in model.graph.initializer)
        and all(value.type.tensor_type.shape.dim[0].dim_param for value in values)
        and [each.domain for each in model.opset_import] == [""]
        and opset_of(model) <= OPSET
    )
