"""vae-gen encode"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_gen.cli import messages, options

if TYPE_CHECKING:
    from vae_gen.data.tones import Tones


@click.command()
@options.pictures_argument
@click.option(
    "--out",
    type=options.PathType(),
    help="A file, which is replaced. .csv: a line a picture, with its name, means and log-variances. .npz: the arrays "
    "`mean` and `log_var`. .npy: the means. Default: CSV on stdout.",
)
@options.bundle_option
@options.skip_bad_option
@options.tones_options
@options.threads_option
@options.json_option
@options.quiet_option
def encode(
    pictures: tuple[Path, ...],
    out: Path | None,
    model: str,
    skip_bad: bool,
    tones: Tones,
    threads: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Turn pictures into latents.

    PICTURES are files that Pillow reads, tar and zip archives of such files, arrays in .npy, .npz or IDX files, and
    folders of these. Images of another size are scaled and cropped about their centre.

    \b
    vae-gen encode digit.png
    vae-gen encode out/ --out z.npy
    """
    from vae_gen.data.pictures import load_pictures
    from vae_gen.latent_files import check_suffix, to_csv, write_latents
    from vae_gen.model import load_bundle

    if out is not None:
        check_suffix(out)
    network = load_bundle(model, threads)
    loaded = load_pictures(pictures, network.image_shape, tones, skip_bad=True)
    if out is not None:
        options.check_not_an_input(out, loaded.files)
    messages.tell_what_cannot_be_read(loaded, skip_bad, quiet)
    messages.tell_if_unfamiliar(loaded.images, network, tones, quiet)
    mean, log_var = network.encode(loaded.images)
    if out is not None:
        write_latents(out, loaded.names, mean, log_var)
        messages.say(f"latents of {messages.count(len(mean), 'picture')} in {out}", quiet)
    if as_json:
        rows = zip(loaded.names, mean.tolist(), log_var.tolist(), strict=True)
        click.echo(json.dumps([dict(zip(("picture", "mean", "log_var"), row, strict=True)) for row in rows], indent=2))
    elif out is None:
        lines = to_csv(loaded.names, mean, log_var)
        # In a file it is UTF-8, whatever this terminal's letters are.
        click.echo(lines if sys.stdout.isatty() else lines.encode("utf-8", "backslashreplace"), nl=False)
