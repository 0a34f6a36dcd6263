"""Options that several commands share, so that each has one name and one meaning."""

from __future__ import annotations

import functools
import inspect
import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_gen.bundles import DEFAULT, shipped
from vae_gen.cli.messages import tell_if_shadowed
from vae_gen.data.tones import Tones
from vae_gen.defaults import FORMATS, MAX_THREADS
from vae_gen.errors import UsageError
from vae_gen.reading import LAYOUTS, Range, Reading, parse_range

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from vae_gen.figures import Figure

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
Callback = Callable[[click.Context, click.Parameter, Any], Any]

PROCESSORS = click.IntRange(1, MAX_THREADS)


class PathType(click.Path):
    """A path; an empty one, which would mean the current folder, or a URL, a folder below it, is a mistake."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("an empty path", param, ctx)
        if "://" in str(value):
            self.fail(
                f"{value} is a URL, and this is a path on this machine; URLs are for --out of sample and decode, and "
                "for verify.",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


class ModelType(click.types.StringParamType):
    """A model, as `--model` takes it: completed to the names of those that ship, else to paths."""

    name = "model"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name) for name in shipped() if name.startswith(incomplete)]
        return [CompletionItem(incomplete, type="file"), *names]  # bash forgets what stands before "file"


class NumberRange(click.FloatRange):
    """A number in a range; "nan" is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number


def parse_size(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    sides = value.lower().split("x")
    if len(sides) > 2 or not all(re.fullmatch("[0-9]{1,9}", side) for side in sides):
        message = f"{value!r} is no size; write 64 for 64x64 pixels, or 48x64 for height x width"
        raise click.BadParameter(message, context, parameter)
    return int(sides[0]), int(sides[-1])


def parse_range_option(context: click.Context, parameter: click.Parameter, value: str | None) -> Range | None:
    try:
        return None if value is None else parse_range(value)
    except ValueError as error:
        message = f"{value!r} is no range; write the values of black and white, such as 0,1 or -1,1"
        raise click.BadParameter(message, context, parameter) from error


def not_empty(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not value:
        raise click.BadParameter("an empty path", context, parameter)
    return value


MODEL = ModelType()


def _grouped(name: str, make: Callable[..., Any], *parameters: Decorator) -> Decorator:
    """Parameters of a command that reach it as its one argument `name`: what `make` makes of them, by its own names."""
    names = list(inspect.signature(make).parameters)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def called(*arguments: Any, **values: Any) -> Any:
            group = {each: values.pop(each) for each in names}
            return command(*arguments, **{name: make(**group)}, **values)

        for parameter in reversed(parameters):
            parameter(called)
        return called

    return decorate


def _names_the_model(*parameters: Decorator) -> Decorator:
    """Parameters that reach the command as its argument `model`; of a path that is not meant, it is told."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def called(*arguments: Any, model: str | None, model_too: str | None = None, **others: Any) -> Any:
            if model is not None and model_too is not None:
                raise UsageError(f"{model} and --model {model_too} both name the model; give one of them")
            chosen = next((name for name in (model, model_too) if name is not None), DEFAULT)
            tell_if_shadowed(chosen, others.get("quiet", False))
            return command(*arguments, model=chosen, **others)

        for parameter in reversed(parameters):
            parameter(called)
        return called

    return decorate


model_option = _names_the_model(
    click.option(
        "--model",
        type=MODEL,
        default=DEFAULT,
        show_default=True,
        help="A shipped model's name, a bundle's directory, or a decoder.onnx.",
    )
)
bundle_option = _names_the_model(
    click.option(
        "--model",
        type=MODEL,
        default=DEFAULT,
        show_default=True,
        help="A shipped model's name, or a bundle's directory.",
    )
)
model_argument = _names_the_model(
    click.argument("model", type=MODEL, required=False),
    click.option("--model", "model_too", type=MODEL, help=f"The same as MODEL.  [default: {DEFAULT}]"),
)
reading_options = _grouped(
    "reading",
    Reading,
    click.option(
        "--layout",
        type=click.Choice(list(LAYOUTS), case_sensitive=False),
        help="Of a decoder made elsewhere: the order of its output's axes. Default: as it says, or by which can be "
        "channels.",
    ),
    click.option(
        "--value-range",
        metavar="LOW,HIGH",
        callback=parse_range_option,
        help="Of a decoder made elsewhere: the values of black and white. Default: as it says, or 0,1; of uint8 0,255.",
    ),
    click.option(
        "--output-name",
        metavar="NAME",
        help="Of a decoder made elsewhere: which output is the image, if it has several.",
    ),
)
seed_option = click.option(
    "--seed",
    type=int,
    help="0 to 2**64 - 1; the same seed gives the same images. Default: a random one, which is printed.",
)
threads_option = click.option(
    "--threads", type=PROCESSORS, help="Processors to use. Default: all that this process may use."
)
threads_each_option = click.option(
    "--threads",
    type=PROCESSORS,
    help="Processors that each of --workers uses. Default: all that this process may use, shared among them.",
)
workers_option = click.option(
    "--workers",
    type=PROCESSORS,
    help="Processes to use, of --threads each. Default: by the number of images.",
)
batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(1, 1_000_000),
    help="Images made at a time; it does not change them. Default: a megabyte of them, at most 1,024.",
)
format_option = click.option(
    "--format",
    type=click.Choice(FORMATS),
    help="png: a folder of numbered files, or the file of one image. npy, npz, idx: arrays. tar: WebDataset. "
    "zip: PNG files. Default: as --out is named, else png.",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what --out already holds.")
white_option = click.option(
    "--white",
    type=float,
    metavar="VALUE",
    help="The value that is white in arrays, and in grey pictures of more than 8 bits: 4095 for 12 bits "
    "in 16. Default: 65535 for 16 bits, 255 for bytes, 1 for floats.",
)
image_size_option = click.option(
    "--image-size",
    metavar="H[xW]",
    callback=parse_size,
    help="Height, or height x width: pictures are scaled to it and cropped about their centre. Default: the size that "
    "most of them have if that is at most 128, else a square.",
)
channels_option = click.option(
    "--channels",
    type=click.Choice(["1", "3", "4"]),
    callback=lambda context, parameter, value: None if value is None else int(value),
    help="1: grey. 3: colour, with transparent parts on white. 4: colour and alpha. Default: 1 or 3, as they are.",
)
skip_bad_option = click.option("--skip-bad", is_flag=True, help="Leave out pictures that cannot be read.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Print no messages, only errors.")


def out_option(default: str, help: str) -> Decorator:
    return click.option("--out", type=PathType(), default=default, show_default=True, help=help)


destination_option = click.option(
    "--out",
    default="out",
    show_default=True,
    callback=not_empty,
    help="A folder; a file that ends as its format does; - for stdout; or a URL such as s3://bucket/digits.",
)


tones_options = _grouped(
    "tones",
    Tones,
    white_option,
    click.option("--invert", is_flag=True, help="Swap black and white in the pictures first."),
)


def figure_options(name: str, *, sheet: str, frames: str, caption: str) -> Decorator:
    """--out, --sheet, --frames, --fps, --caption and --scale, which reach the command as its argument `figure`.

    `name` is that of the file, without its suffix; the others are what the command does by these options.
    """
    kinds = "ends in .gif, .webp, .png or .apng; it is replaced"

    def make(
        out: Path | None, sheet: bool, frames: int | None, fps: float | None, caption: bool, scale: int | None
    ) -> Figure:
        from vae_gen.figures import Figure

        out = out or Path(f"{name}.png" if sheet else f"{name}.gif")
        return Figure(out, sheet, frames or (11 if sheet else 60), fps, caption, scale)

    return _grouped(
        "figure",
        make,
        click.option(
            "--out", type=PathType(), help=f"A file that {kinds}.  [default: {name}.gif, or {name}.png of a sheet]"
        ),
        click.option("--sheet", is_flag=True, help=sheet),
        click.option("--frames", type=click.IntRange(2, 10_000), help=f"{frames}  [default: 60, or 11 on a sheet]"),
        click.option("--fps", type=NumberRange(1, 50), help="Frames a second.  [default: 20]"),
        click.option("--caption", is_flag=True, help=caption),
        click.option(
            "--scale",
            type=click.IntRange(1, 64),
            help="Enlarge each pixel. Default: to about 224 pixels, or 64 for each of several pictures.",
        ),
    )


pictures_argument = click.argument("pictures", nargs=-1, required=True, type=PathType())


def check_not_an_input(out: Path, files: Iterable[Path]) -> None:
    """Raise UsageError if writing `out` would replace one of the files that were read."""
    there = os.path.exists(out)  # noqa: PTH110, Path.exists raises where nobody can tell
    if there and any(out.samefile(file) for file in files):
        raise UsageError(f"--out {out} would replace a file that is read; choose another --out")
