"""A checkpoint -> a bundle: traced, folded, stamped, checked, and then moved into place."""

from __future__ import annotations

import dataclasses
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx
from vae_gen.errors import OutputError
from vae_gen.files import make_folder
from vae_gen.manifest import DECODER, ENCODER, MANIFEST, Description, Manifest, sha256_of
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.config import TrainConfig
from vae_gen_train.metrics_log import read_metrics
from vae_gen_train.objective import OBJECTIVES

from vae_gen_export.graphs import OPSET, trace
from vae_gen_export.parity import BATCH_SIZES, measure_parity
from vae_gen_export.simplify import Simplification, simplify
from vae_gen_export.stamp import DECODER_DOC, ENCODER_DOC, IR_VERSION, bundle_id, stamp

BUNDLE_FILES = {ENCODER, DECODER, MANIFEST}


def export(
    run: Path,
    out: Path,
    name: str | None = None,
    licence: str = "unspecified",
    fold: bool = True,
    overwrite: bool = False,
) -> Manifest:
    """Make the bundle `out` from the newest checkpoint of `run`, or raise and leave nothing behind.

    `name` is what the model calls itself, by default as the directory is called. Without `fold` the graphs
    stay as they were traced. A directory that is there already is replaced only with `overwrite`, and only if
    it is a bundle. Raises DataError, OutputError, or BundleError if the bundle does not agree with PyTorch.
    """
    _check_free(out, overwrite)
    checkpoint = Checkpoint.open(run)
    vae = checkpoint.load_network()
    graphs = dict(
        zip((ENCODER, DECODER), trace(vae, checkpoint.image_shape, checkpoint.config.latent_dim), strict=True)
    )
    simplified: dict[str, Simplification] = {}
    if fold:
        for file, graph in graphs.items():
            graphs[file], simplified[file] = simplify(graph)

    description = Description(
        name=name or out.resolve().name,
        bundle_id=bundle_id(*graphs.values()),
        latent_dim=checkpoint.config.latent_dim,
        image_shape=checkpoint.image_shape,
        licence=licence,
        latent_mean=tuple(checkpoint.latents["mean"]),
        latent_std=tuple(checkpoint.latents["std"]),
        latent_kl=tuple(checkpoint.latents["kl"]),
    )
    make_folder(out.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
            bundle = Path(temporary) / "bundle"
            bundle.mkdir()
            for file, doc in ((ENCODER, ENCODER_DOC), (DECODER, DECODER_DOC)):
                stamped = stamp(graphs[file], description, doc)
                onnx.checker.check_model(stamped, full_check=True)
                onnx.save(stamped, bundle / file)
            manifest = Manifest(
                description=description,
                sha256={file: sha256_of(bundle / file) for file in graphs},
                training={
                    "steps": checkpoint.step,
                    "config": checkpoint.config.as_dict(),
                    "data": checkpoint.data,
                    "packages": checkpoint.packages,
                },
                metrics={"command": _command(checkpoint.config), **_metrics(run, checkpoint.step, checkpoint.config)},
                export={},
            )
            manifest.write(bundle)  # so that it can be loaded
            about = {
                "parity_with_pytorch_float64": measure_parity(vae, bundle),
                "parity_batch_sizes": BATCH_SIZES,
                "simplified": {file: what.as_dict() for file, what in simplified.items()},
                "opset": OPSET,
                "ir_version": IR_VERSION,
                "packages": {each: metadata.version(each) for each in ("vae-gen", "torch", "onnx", "onnxruntime")},
            }
            manifest = dataclasses.replace(manifest, export=about)
            manifest.write(bundle)
            _check_free(out, overwrite)  # again: making it took a while
            _move_into_place(bundle, out, Path(temporary) / "replaced")
    except OSError as error:
        raise OutputError(f"cannot write the bundle {out}: {error.strerror or error}") from error
    return manifest


def _check_free(out: Path, overwrite: bool) -> None:
    if out.is_file():
        raise OutputError(f"{out} is a file; give --out the name of a directory")
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if there and not overwrite:
        raise OutputError(f"{out} already holds something; choose another --out, or give --overwrite")
    if there - BUNDLE_FILES:
        raise OutputError(f"{out} holds files that are no part of a bundle: {', '.join(sorted(there - BUNDLE_FILES))}")


def _command(config: TrainConfig) -> str:
    """The command line that repeats the run."""
    preset = TrainConfig.from_preset(config.preset).as_dict()
    fixed = {"preset", "network", "processes", "evaluate_every", "checkpoint_every", "picture_every", "log_every"}
    changed = {name: value for name, value in config.as_dict().items() if name not in fixed and value != preset[name]}
    options = "".join(f" --{name.replace('_', '-')} {value}" for name, value in changed.items())
    processes = config.processes
    program = f"torchrun --nproc-per-node {processes} -m vae_gen_train" if processes > 1 else "vae-gen train"
    return f"{program} --preset {config.preset}{options}"


def _metrics(run: Path, step: int, config: TrainConfig) -> dict[str, Any]:
    """What the run measured on whole splits, the last time up to that step; it did so with PyTorch as it went."""
    unit = OBJECTIVES[config.objective].unit
    total = "their sum" if config.beta == 1 else f"reconstruction + {config.beta:g} kl"
    units = f"means per image in nats; reconstruction: {unit}, one posterior draw; total: {total}"
    names = ("step", "reconstruction", "kl", "total", "sse")
    found = {}
    for record in read_metrics(run):
        if record["step"] <= step and record["split"] in ("validation", "test"):
            found[record["split"]] = {name: record[name] for name in names if name in record}
    return {"units": units, **found}


def _move_into_place(bundle: Path, out: Path, replaced: Path) -> None:
    """Rename `bundle` to `out`; what was there goes to `replaced`, and comes back if that fails."""
    if out.exists():
        out.rename(replaced)
    try:
        bundle.rename(out)
    except BaseException:  # Ctrl-C too
        if replaced.exists():
            replaced.rename(out)
        raise
