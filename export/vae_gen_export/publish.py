"""A source -> a bundle, or a decoder alone: folded, stamped, checked, and then moved into place."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx
from vae_gen.errors import BundleError, OutputError
from vae_gen.files import make_folder, partial_name, real_path, remove_tree, when_free
from vae_gen.manifest import DECODER, ENCODER, MANIFEST, Description, Manifest, sha256_of
from vae_gen.stores.local import LocalStore

from vae_gen_export.opsets import in_oldest_opset
from vae_gen_export.parity import BATCH_SIZES, measure_parity
from vae_gen_export.simplify import Simplification, simplify
from vae_gen_export.simplify.view import IR_VERSION, opset_of
from vae_gen_export.sources import Source
from vae_gen_export.stamp import bundle_id, stamp
from vae_gen_export.variants import AS_IS, Variant
from vae_gen_export.variants.int8 import compare

BUNDLE_FILES = (ENCODER, DECODER, MANIFEST)  # as they are put in place: a bundle is one once it has its manifest


def is_decoder_alone(out: Path) -> bool:
    """Whether `out` is the name of one graph, and not of a bundle's directory."""
    return out.suffix == ".onnx"


def publish(
    source: Source,
    out: Path,
    name: str | None = None,
    licence: str | None = None,
    fold: bool = True,
    overwrite: bool = False,
    variant: Variant = AS_IS,
) -> Manifest:
    """Make the bundle `out` of `source`, or raise and leave nothing behind; returns its manifest.

    An `out` that ends in .onnx is the decoder alone, which has its description within it, and no manifest beside it.
    `name` is what the model calls itself, by default as `out` is called; `licence` is by default its source's. Without
    `fold` the graphs stay as they were traced; `variant` says in which form they are then put. What is there already
    is replaced only with `overwrite`, and in a directory only if it is a bundle; a link is written through. Raises
    OutputError, NetworkError if the graphs cannot be made, or BundleError if they do not agree with their source or,
    in int8, are not faster.
    """
    target = check_free(out, overwrite)
    alone = is_decoder_alone(out)
    files = [DECODER] if alone else [ENCODER, DECODER]
    made: dict[str, onnx.ModelProto] = {}
    simplified: dict[str, Simplification] = {}
    for file in files:
        graph = variant.extend(file, source.graph(file))
        if fold:
            graph, simplified[file] = simplify(graph)
        made[file] = in_oldest_opset(variant.convert(file, graph))

    plain = Description(
        name=name or (out.stem if alone else target.name),
        bundle_id=bundle_id(*made.values()),
        latent_dim=source.latent_dim,
        image_shape=source.image_shape,
        licence=licence or source.licence,
        latent_mean=source.latent_mean,
        latent_std=source.latent_std,
        latent_kl=source.latent_kl,
    )
    make_folder(target.parent)
    try:
        with _stage(target) as stage:
            bundle = stage / "bundle"
            bundle.mkdir()
            paths = {file: bundle / file for file in files}
            for file, path in paths.items():
                _save(made[file], variant.describe(plain), path)
            manifest = Manifest(
                description=variant.describe(plain),
                sha256={file: sha256_of(path) for file, path in paths.items()},
                training=source.training,
                metrics=source.metrics,
                export={},
            )
            manifest.write(bundle)  # so that it can be loaded
            about = {
                **_compared(source, paths, variant),
                "simplified": {file: what.as_dict() for file, what in simplified.items()},
                "opset": max(map(opset_of, made.values())),
                "ir_version": IR_VERSION,
                "packages": {each: metadata.version(each) for each in ("vae-gen", "torch", "onnx", "onnxruntime")},
            }
            if variant.quantize:
                float32 = stage / "float32.onnx"
                _save(simplify(source.graph(DECODER))[0], plain, float32)
                about["speed"] = compare(float32, paths[DECODER]).as_json()
            manifest = dataclasses.replace(manifest, export=about)
            manifest.write(bundle)
            check_free(out, overwrite)  # again: making it took a while
            whole = bundle / DECODER if alone else bundle
            _move_into_place(whole, target, stage / "replaced")
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
    return manifest


def _compared(source: Source, paths: dict[str, Path], variant: Variant) -> dict[str, Any]:
    """What the manifest says of how the files at `paths` came about and how exact they are. Raises BundleError."""
    differences = measure_parity(source, paths, variant)
    about: dict[str, Any] = {
        f"parity_with_{source.reference_key}": {name: each.largest for name, each in differences.items()},
        "parity_batch_sizes": BATCH_SIZES,
    }
    if source.made_from:
        about["made_from"] = source.made_from
    if variant != AS_IS:
        about["variant"] = variant.as_json
        about["mean_difference"] = {name: each.mean for name, each in differences.items()}
        about["tolerance"] = {name: dataclasses.asdict(variant.tolerance(name)) for name in differences}
    return about


def _save(graph: onnx.ModelProto, description: Description, path: Path) -> None:
    stamped = stamp(graph, description)
    _check_graph(stamped, path.name)
    onnx.save(stamped, path)


def _check_graph(graph: onnx.ModelProto, file: str) -> None:
    """Raise BundleError unless ONNX's own checker passes the graph and all operators are its own."""
    try:
        onnx.checker.check_model(graph, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BundleError(f"{file} is no valid graph: {str(error).splitlines()[0]}") from error
    strange = sorted({f"{node.domain}.{node.op_type}" for node in graph.graph.node if node.domain})
    if strange:
        raise BundleError(f"{file} has operators that are not ONNX's own, so few engines run it: {', '.join(strange)}")


def check_free(out: Path, overwrite: bool) -> Path:
    """Where `out` leads through all links. Raises OutputError if something there must stay."""
    target = real_path(out)
    if is_decoder_alone(out):
        if target.is_dir():
            raise OutputError(f"{out} is a directory; a name that ends in .onnx is that of a decoder's file")
        there = {out.name} if target.exists() else set()
        strange: set[str] = set()
    else:
        if target.is_file():
            raise OutputError(f"{out} is a file; give --out the name of a directory, or one that ends in .onnx")
        there = set(LocalStore(str(out)).names())
        strange = there.difference(BUNDLE_FILES)
    if there and not overwrite:
        raise OutputError(f"{out} already holds something; choose another --out, or give --overwrite")
    if strange:
        raise OutputError(f"{out} holds files that are no part of a bundle: {', '.join(sorted(strange))}")
    return target


@contextmanager
def _stage(target: Path) -> Iterator[Path]:
    """A new hidden directory on the disk of `target`, beside it or, where it is a directory, within; it vanishes."""
    stage = (target if target.is_dir() else target.parent) / partial_name(target.name)
    try:
        stage.mkdir()
        yield stage
    finally:
        remove_tree(stage, ignore_errors=True)


def _move_into_place(whole: Path, target: Path, replaced: Path) -> None:
    """Rename `whole` to `target` or, where that is a directory, move the files.

    What was there goes to `replaced`, and comes back if that fails.
    """
    if not target.is_dir():
        when_free(whole.replace, target)
        return
    replaced.mkdir()
    try:
        for name in BUNDLE_FILES:
            if (target / name).exists():
                when_free((target / name).replace, replaced / name)
            when_free((whole / name).replace, target / name)
    except BaseException:  # Ctrl-C too
        for name in BUNDLE_FILES:
            if (replaced / name).exists():
                when_free((replaced / name).replace, target / name)
            elif not (whole / name).exists():
                when_free((target / name).unlink)
        raise
