"""vae-gen interpolate"""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_gen.cli import messages, options
from vae_gen.reading import Reading

if TYPE_CHECKING:
    from vae_gen.data.tones import Tones
    from vae_gen.figures import Figure

NEGATIVE = re.compile(r" ?(-[0-9.][-+0-9.,:eE ]*)")
MAX_IMAGES = 10_000


class PointType(options.PathType):
    """What `read_points` reads: a path, or text that could be one."""

    name = "point"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        super().convert(value, param, ctx)
        return number[1] if (number := NEGATIVE.fullmatch(value)) else value


class NumbersCommand(click.Command):
    """A command whose arguments may begin with a minus sign, which click takes for an option's dash."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [f" {word}" if NEGATIVE.fullmatch(word) else word for word in args])


@click.command(cls=NumbersCommand)
@click.argument("points", metavar="POINT POINT...", nargs=-1, required=True, type=PointType())
@options.figure_options(
    "interpolate",
    sheet="Make no animation, but a still PNG file with a row for each way from one point to the next.",
    frames="Images from one point to the next, both counted.",
    caption="Write the two points and the place between them, from 0 to 1, above each frame, or beside a sheet.",
)
@click.option(
    "--path",
    type=click.Choice(["spherical", "linear"]),
    default="spherical",
    show_default=True,
    help="spherical: as far from the origin as the points, where images lie. linear: the straight line, which comes "
    "nearer to the origin.",
)
@click.option("--loop", is_flag=True, help="Return to the first point at the end.")
@options.model_option
@options.reading_options
@options.tones_options
@options.threads_option
@options.quiet_option
def interpolate(
    points: tuple[str, ...],
    figure: Figure,
    path: str,
    loop: bool,
    model: str,
    reading: Reading,
    tones: Tones,
    threads: int | None,
    quiet: bool,
) -> None:
    """Go from image to image through latent space.

    A POINT is a seed (7 is the image 0 of seed 7, 7:41 its image 41), latents as numbers between commas, a file of them
    that encode has made (each line a point), or a picture or a folder of pictures, which are scaled, cropped about
    their centre, and encoded first. Points may be mixed, and are visited in order. It becomes an animation, or with
    --sheet a still picture. A file whose name is a number is ./7.

    \b
    vae-gen interpolate 3 7 12 --loop
    vae-gen interpolate one.png 7:41 other.png --sheet --caption
    vae-gen interpolate --model notebook -1,1,0.1,0.3,-0.2,0.7,-0.5,-2.5 3 --path linear
    """
    import numpy as np

    from vae_gen.errors import UsageError
    from vae_gen.model import load
    from vae_gen.paths import linear, spherical
    from vae_gen.points import is_seed, read_points, short_name

    network = load(model, threads, **vars(reading))
    for point in points:
        if is_seed(point) and Path(point).exists():
            messages.say(f"{point} is a seed; ./{point} is the file here", quiet)
    found = read_points(points, network, sys.stdin, tones)
    options.check_not_an_input(figure.out, found.files)
    if len(found.names) < 2:
        raise UsageError(f"{found.names[0]} is one point alone; give two or more")
    if len(found.pictures):
        messages.tell_if_unfamiliar(found.pictures, network, tones, quiet)
    elif given := tones.as_options:
        raise UsageError(f"{given[0]} is for pictures, and no point is one")

    stops = [*range(len(found.names)), *([0] if loop else [])]
    if (len(stops) - 1) * figure.frames > MAX_IMAGES:
        raise UsageError(
            f"{len(stops) - 1} times {figure.frames} images are more than {MAX_IMAGES:,}; give fewer --frames or points"
        )
    between = spherical if path == "spherical" else linear
    legs = []
    for start, end in pairwise(stops):
        try:
            legs.append(between(found.latents[start], found.latents[end], figure.frames))
        except UsageError as error:
            raise UsageError(f"{found.names[start]} and {found.names[end]}: {error}") from error
    images = np.stack([network.decode_bytes(leg) for leg in legs])
    names = [short_name(name) for name in found.names]
    rows = [f"{names[start]} to {names[end]}" for start, end in pairwise(stops)]
    places = [f"{place:.2f}" for place in np.linspace(0, 1, figure.frames)]
    if figure.sheet:
        figure.save_sheet(images, rows, places)
        messages.say(f"{messages.count(len(rows), 'row')} of {figure.frames} images in {figure.out}", quiet)
    else:
        # The last image of a row is the first of the next one.
        captions = [f"{row}: {place}" for row in rows for place in places[:-1]]
        frames = images[:, :-1].reshape(-1, *images.shape[2:])
        if not loop:
            captions.append(f"{rows[-1]}: {places[-1]}")
            frames = np.concatenate([frames, images[-1, -1:]])
        figure.save_animation(frames[:, None], captions)
        messages.say(f"{len(frames)} frames in {figure.out}", quiet)
