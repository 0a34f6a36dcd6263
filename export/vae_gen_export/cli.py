"""vae-gen export"""

from __future__ import annotations

from pathlib import Path

import click
from vae_gen.cli import options
from vae_gen.errors import MissingExtraError


@click.command()
@click.argument("run", type=options.PathType())
@click.option("--out", type=options.PathType(), required=True, help="The bundle's directory.")
@click.option("--name", help="What the model calls itself. Default: as the directory is called.")
@click.option("--licence", default="unspecified", show_default=True, help="The licence that the model comes under.")
@click.option(
    "--fold/--no-fold",
    default=True,
    help="Give chains of affine layers their cheapest form, or keep the graphs as they were traced.",
)
@click.option("--overwrite", is_flag=True, help="Replace the bundle that --out already holds.")
@options.quiet_option
def export(run: Path, out: Path, name: str | None, licence: str, fold: bool, overwrite: bool, quiet: bool) -> None:
    """Turn a training run into a bundle: encoder.onnx, decoder.onnx and manifest.json.

    The bundle is compared with the PyTorch network before it is put in place; if they differ, nothing is written.

    \b
    vae-gen export runs/notebook --out models/notebook
    vae-gen sample --model models/notebook --out digits/
    """
    try:
        from vae_gen_export.publish import export as publish
    except ModuleNotFoundError as error:
        raise MissingExtraError("vae-gen export", error.name or "torch", "train") from error

    manifest = publish(run, out, name, licence, fold, overwrite)
    for file, what in manifest.export["simplified"].items():
        before, after = what["multiply_adds_before"], what["multiply_adds_after"]
        options.say(f"{file}: {before:,} -> {after:,} multiply-adds an image", quiet)
    worst = max(manifest.export["parity_with_pytorch_float64"].values())
    options.say(f"largest difference from PyTorch: {worst:.2g}", quiet)
    options.say(f"the bundle is in {out}; next: vae-gen sample --model {out} --out NEW_FOLDER", quiet)
