"""How commands talk to the person at the terminal: messages and a progress bar, on stderr."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from vae_gen.bundles import is_shadowed

if TYPE_CHECKING:
    from vae_gen.data.pictures import Pictures
    from vae_gen.data.tones import Tones
    from vae_gen.images import FloatImages
    from vae_gen.model import Model

MOST_SECONDS_LEFT = 10**9  # 30 years; beyond, nobody needs to know


def say(message: str, quiet: bool = False) -> None:
    """A message for the person at the terminal, on stderr."""
    if not quiet:
        click.echo(message, err=True)


def tell_if_shadowed(model: str, quiet: bool) -> None:
    """Tell who names a model that ships, where one of that name lies too, which of them is meant."""
    if is_shadowed(model):
        say(f"{model} is the model that ships; ./{model} is the one here", quiet)


def tell_if_unfamiliar(images: FloatImages, network: Model, tones: Tones, quiet: bool) -> None:
    """Tell who gives pictures that are all dark, or that the model does not know or knows inverted, what to do."""
    from vae_gen.evaluation.familiarity import familiarity

    if not quiet:
        dark = tones.hint_if_dark(tones.brightest(images, 1))
        for hint in filter(None, (dark, familiarity(images, network).hint(tones.invert))):
            say(hint)


def tell_what_cannot_be_read(pictures: Pictures, skip_bad: bool, quiet: bool) -> None:
    """Tell which files cannot be read: with --skip-bad as those left out, without it as a DataError."""
    from vae_gen.data.picture_files import check_readable, unreadable

    check_readable(pictures.bad, skip_bad)
    if pictures.bad:
        say(f"left out {unreadable(pictures.bad)}", quiet)


def place(out: str) -> str:
    """--out in a message."""
    return "stdout" if out == "-" else out


def count(number: int, thing: str) -> str:
    """1 image, 2 images."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


@contextmanager
def progress_bar(length: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar with images a second and the time left, on stderr if that is a terminal.

    Yields what to call with each number of images done; those of the first call were there before.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from datetime import timedelta

    begin, already = 0.0, -1

    def speed(_item: object) -> str:
        if already < 0:
            return ""
        rate = (bar.pos - already) / max(time.monotonic() - begin, 1e-3)
        left = (length - bar.pos) / rate if rate > 0 else math.inf
        ending = f", {timedelta(seconds=round(left))} left" if left < MOST_SECONDS_LEFT else ""
        return f"{rate:,.0f} images/s{ending}" if rate > 0 else ""

    def update(done: int) -> None:
        nonlocal begin, already
        if already < 0:
            begin, already = time.monotonic(), done
        bar.update(done)

    bar = click.progressbar(
        length=length, file=sys.stderr, show_pos=True, show_eta=False, show_percent=False, item_show_func=speed
    )
    with bar:
        yield update
