"""vae-gen export"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from vae_gen.cli import options
from vae_gen.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from vae_gen_export.source import Source


@click.command()
@click.argument("run", type=options.PathType(), required=False)
@click.option(
    "--out",
    type=options.PathType(),
    required=True,
    help="The bundle's directory; or NAME.onnx, for the decoder alone in one file.",
)
@click.option("--name", help="What the model calls itself. Default: as --out is called.")
@click.option("--licence", default="unspecified", show_default=True, help="The licence that the model comes under.")
@click.option("--fold/--no-fold", default=True, help="Merge chains of affine layers where that is cheaper.")
@click.option("--overwrite", is_flag=True, help="Replace the bundle that --out already holds.")
@click.option("--module", metavar="PACKAGE.MODULE:FACTORY", help="Your own network: what makes it, without arguments.")
@click.option("--weights", type=options.PathType(), help="Its weights: safetensors, or a state dict by torch.save.")
@click.option("--latent-dim", type=click.IntRange(1), help="Its latents; needed with --module.")
@click.option(
    "--image-size",
    metavar="H[xW]",
    callback=options.parse_size,
    help="Its images' height, or height x width. Default: as the decoder makes them; needed if it makes flat rows.",
)
@click.option("--channels", type=click.IntRange(1, 4), help="Its images' channels. Default: as the decoder makes them.")
@click.option(
    "--value-range",
    type=(float, float),
    metavar="LOW HIGH",
    help="What black and white are to it, such as -1 1. Default: 0 1.",
)
@options.quiet_option
def export(
    run: Path | None,
    out: Path,
    name: str | None,
    licence: str,
    fold: bool,
    overwrite: bool,
    module: str | None,
    weights: Path | None,
    latent_dim: int | None,
    image_size: tuple[int, int] | None,
    channels: int | None,
    value_range: tuple[float, float] | None,
    quiet: bool,
) -> None:
    """Turn a training run into a bundle: encoder.onnx, decoder.onnx and manifest.json.

    The bundle is compared with the PyTorch network before it is put in place; if they differ, nothing is written.

    \b
    vae-gen export runs/notebook --out models/notebook
    vae-gen sample --model models/notebook --out digits/

    A network of your own is exported by what makes it: a class or function in a module that is installed or in the
    current directory. It has methods encode and decode or sub-modules encoder and decoder, or is such a pair;
    encoding images [batch, channels, height, width] gives (mean, log_var), each [batch, latent_dim], and decoding
    latents gives images in [0, 1].

    \b
    vae-gen export --module mymodel:VAE --weights vae.safetensors --latent-dim 16 --out bundles/mine
    vae-gen export --module mymodel:Decoder --weights decoder.pt --latent-dim 16 --out decoder.onnx
    """
    about_network = {
        "--weights": weights,
        "--latent-dim": latent_dim,
        "--image-size": image_size,
        "--channels": channels,
        "--value-range": value_range,
    }
    given = [option for option, value in about_network.items() if value is not None]
    if (run is None) == (module is None):
        raise UsageError("give a training run's directory, or --module package.module:factory; one of them")
    if module is None and given:
        raise UsageError(f"{given[0]} is for --module; a training run knows it")
    if module is not None and latent_dim is None:
        raise UsageError("--module needs --latent-dim: how many latents the network has")
    try:
        from vae_gen_export import publish
    except ModuleNotFoundError as error:
        raise MissingExtraError("vae-gen export", error.name or "torch", "train") from error

    source: Source
    publish.check_free(out, overwrite)
    if run is not None:
        from vae_gen_export.training_run import open_run

        source = open_run(run)
    else:
        from vae_gen_export.own_module import open_module

        assert module is not None
        assert latent_dim is not None
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
        alone = publish.is_decoder_alone(out)
        source = open_module(module, weights, latent_dim, image_size, channels, value_range or (0.0, 1.0), alone)
    manifest = publish.publish(source, out, name, licence, fold, overwrite)
    for file, folds in manifest.export["folded"].items():
        for each in folds:
            before, after = each["multiply_adds_before"], each["multiply_adds_after"]
            chain = " ".join(each["operations"])
            options.say(f"{file}: {chain} became one dense layer, {before:,} -> {after:,} multiply-adds", quiet)
    worst = max(manifest.export["parity_with_pytorch_float64"].values())
    options.say(f"largest difference from PyTorch: {worst:.2g}", quiet)
    what = "decoder" if publish.is_decoder_alone(out) else "bundle"
    options.say(f"the {what} is in {out}; next: vae-gen sample --model {out} --out NEW_FOLDER", quiet)
