"""vae-gen reconstruct"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_gen.cli import messages, options

if TYPE_CHECKING:
    from vae_gen.data.tones import Tones


@click.command()
@options.pictures_argument
@options.out_option("reconstruct.png", "The sheet, a PNG file; it is replaced.")
@options.bundle_option
@click.option("--show", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Pictures on the sheet.")
@click.option("--columns", type=click.IntRange(1, 1000), default=10, show_default=True, help="Pictures in a row of it.")
@click.option("--scale", type=click.IntRange(1, 64), help="Enlarge each pixel. Default: to about 64 pixels a picture.")
@options.skip_bad_option
@options.tones_options
@options.threads_option
@options.json_option
@options.quiet_option
def reconstruct(
    pictures: tuple[Path, ...],
    out: Path,
    model: str,
    show: int,
    columns: int,
    scale: int | None,
    skip_bad: bool,
    tones: Tones,
    threads: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show what the model makes of pictures, and how far off it is.

    PICTURES are files that Pillow reads, tar and zip archives of such files, arrays in .npy, .npz or IDX files, and
    folders of these. Images of another size are scaled and cropped about their centre.

    The sheet has inputs over reconstructions, from the posterior mean. Errors are sums of squared errors over a
    picture's values in [0, 1].

    \b
    vae-gen reconstruct digit.png
    vae-gen reconstruct t10k-images-idx3-ubyte.gz --show 50
    """
    from vae_gen.data.pictures import load_pictures
    from vae_gen.evaluation.metrics import sum_of_squared_errors
    from vae_gen.images import to_uint8
    from vae_gen.model import load_bundle
    from vae_gen.png import check_suffix, save_figure
    from vae_gen.sheets import enlarge, pairs_sheet, viewing_factor

    check_suffix(out)
    network = load_bundle(model, threads)
    loaded = load_pictures(pictures, network.image_shape, tones, skip_bad=True)
    options.check_not_an_input(out, loaded.files)
    messages.tell_what_cannot_be_read(loaded, skip_bad, quiet)
    messages.tell_if_unfamiliar(loaded.images, network, tones, quiet)
    mean, _ = network.encode(loaded.images)
    outputs = network.decode(mean)
    errors = sum_of_squared_errors(outputs, loaded.images)

    sheet = pairs_sheet(to_uint8(loaded.images[:show]), to_uint8(outputs[:show]), columns)
    save_figure(enlarge(sheet, scale or viewing_factor(*network.image_shape[1:], pixels=64)), out)

    if as_json:
        rows = [{"picture": name, "sse": error} for name, error in zip(loaded.names, errors.tolist(), strict=True)]
        click.echo(json.dumps({"mean_sse": float(errors.mean()), "pictures": rows}, indent=2))
    else:
        for name, error in zip(loaded.names[:show], errors, strict=False):
            click.echo(f"{error:10.3f}  {name}")
        if len(errors) > show:
            click.echo(f"       ...  {len(errors) - show} more; --json lists them all")
        click.echo(f"{errors.mean():10.3f}  mean sum of squared errors of {messages.count(len(errors), 'picture')}")
    messages.say(f"{min(show, len(errors))} of {messages.count(len(errors), 'picture')} in {out}", quiet)
