"""vae-gen export"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from vae_gen.bundles import as_typed
from vae_gen.cli import messages, options
from vae_gen.errors import MissingExtraError, UsageError
from vae_gen.reading import UNIT
from vae_gen.shell import joined


@click.command()
@click.argument("source", type=options.MODEL, required=False)
@click.option(
    "--out",
    type=options.PathType(),
    required=True,
    help="The bundle's directory; or NAME.onnx, for the decoder alone in one file.",
)
@click.option("--name", help="The model's name. Default: the name of --out.")
@click.option("--licence", help="The licence that the model comes under. Default: that of a bundle, else unspecified.")
@click.option(
    "--fold/--no-fold",
    default=True,
    help="Give chains of affine layers their cheapest form, or keep the graphs as they were traced.",
)
@click.option("--overwrite", is_flag=True, help="Replace the bundle that --out already holds.")
@click.option("--module", metavar="PACKAGE.MODULE:FACTORY", help="Your own network: what makes it, without arguments.")
@click.option("--weights", type=options.PathType(), help="Its weights: safetensors, or a state dict by torch.save.")
@click.option("--latent-dim", type=click.IntRange(1), help="How many latents it has; needed with --module.")
@click.option(
    "--image-size",
    metavar="H[xW]",
    callback=options.parse_size,
    help="Its images' height, or height x width. Default: as the decoder makes them; needed if it makes flat rows.",
)
@click.option("--channels", type=click.IntRange(1, 4), help="Its images' channels. Default: as the decoder makes them.")
@click.option(
    "--value-range",
    metavar="LOW,HIGH",
    callback=options.parse_range_option,
    help="What black and white are to it, such as -1,1. Default: 0,1.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="fp16: weights in half the size.",
)
@click.option(
    "--quantize", type=click.Choice(["int8"]), help="The decoder in integers, if that is faster on this machine."
)
@click.option("--uint8", is_flag=True, help="The decoder makes uint8 [batch, height, width, channels].")
@click.option(
    "--batch",
    type=click.IntRange(1, 4096),
    help="The graphs take this many rows at a time and no other number. Default: any number.",
)
@options.quiet_option
def export(
    source: str | None,
    out: Path,
    name: str | None,
    licence: str | None,
    fold: bool,
    overwrite: bool,
    module: str | None,
    weights: Path | None,
    latent_dim: int | None,
    image_size: tuple[int, int] | None,
    channels: int | None,
    value_range: tuple[float, float] | None,
    precision: str,
    quantize: str | None,
    uint8: bool,
    batch: int | None,
    quiet: bool,
) -> None:
    """Turn a network into encoder.onnx and decoder.onnx.

    SOURCE is a training run's directory. The graphs and their manifest.json, a bundle, are compared with the PyTorch
    network before they are put in place; if they differ, nothing is written.

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

    For other engines and programs there are variants, of a run, a module, or of a bundle or decoder.onnx, which SOURCE
    may be too.

    \b
    vae-gen export mnist --precision fp16 --out bundles/half
    vae-gen export mnist --uint8 --batch 1 --out decoder.onnx
    """
    about_network = {
        "--weights": weights,
        "--latent-dim": latent_dim,
        "--image-size": image_size,
        "--channels": channels,
        "--value-range": value_range,
    }
    given = [option for option, value in about_network.items() if value is not None]
    if (source is None) == (module is None):
        raise UsageError("give a training run's directory or a model, or --module package.module:factory; one of them")
    if module is None and given:
        raise UsageError(f"{given[0]} is for --module; {source} knows it")
    if module is not None and latent_dim is None:
        raise UsageError("--module needs --latent-dim: how many latents the network has")
    try:
        from vae_gen_export import publish
        from vae_gen_export.sources.bundle import open_source
        from vae_gen_export.sources.own_module import open_module
        from vae_gen_export.variants import Variant
    except ModuleNotFoundError as error:
        raise MissingExtraError("vae-gen export", error.name or "torch", "train") from error

    variant = Variant(precision, quantize, uint8, batch)
    publish.check_free(out, overwrite)
    if source is not None:
        messages.tell_if_shadowed(source, quiet)
        model = open_source(source)
    else:
        assert module is not None
        assert latent_dim is not None
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
        alone = publish.is_decoder_alone(out)
        model = open_module(module, weights, latent_dim, image_size, channels, value_range or UNIT, alone)
    if model.note:
        messages.say(model.note, quiet)
    manifest = publish.publish(model, out, name, licence, fold, overwrite, variant)
    for file, counts in manifest.export["simplified"].items():
        before, after = counts["multiply_adds_before"], counts["multiply_adds_after"]
        messages.say(f"{file}: {before:,} -> {after:,} multiply-adds an image", quiet)
    if quantize:
        messages.say(manifest.export["speed"]["text"], quiet)
    worst = max(manifest.export[f"parity_with_{model.reference_key}"].values())
    rounded = "; rounding to bytes alone makes 0.002" if uint8 else ""
    messages.say(f"largest difference from {model.reference_name}: {worst:.2g}{rounded}", quiet)
    what = "decoder" if publish.is_decoder_alone(out) else "bundle"
    command = joined(["vae-gen", "sample", "--model", as_typed(out), "--out", "NEW_FOLDER"])
    messages.say(f"the {what} is in {out}; next: {command}", quiet)
