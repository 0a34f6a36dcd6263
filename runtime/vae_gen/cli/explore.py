"""vae-gen explore"""

from __future__ import annotations

import click

from vae_gen.cli import messages, options
from vae_gen.reading import Reading


@click.command()
@options.model_argument
@options.reading_options
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Where to listen. Default: 8230, or a free one where it is taken."
)
@options.white_option
@click.option("--browser/--no-browser", default=True, help="Open the page in a browser, or only say where it is.")
@options.threads_option
@options.quiet_option
def explore(
    model: str,
    reading: Reading,
    port: int | None,
    white: float | None,
    browser: bool,
    threads: int | None,
    quiet: bool,
) -> None:
    """Explore the latent space on a page in the browser.

    MODEL is a shipped model's name, a bundle's directory, or a decoder.onnx. The page has a filmstrip for each latent:
    drag along it, click a picture of it, or type a number. Of a bundle, it also takes pictures and shows what the model
    makes of them. Only browsers on this machine can see it; Ctrl-C ends it, with exit status 0.

    \b
    vae-gen explore
    vae-gen explore notebook --port 8000
    """
    import signal
    import threading

    from vae_gen.data.tones import Tones
    from vae_gen.explore.explorer import Explorer
    from vae_gen.explore.server import Server
    from vae_gen.model import load

    explorer = Explorer(load(model, threads, **vars(reading)), model, reading, Tones(white=white))
    with Server(explorer, port) as server:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, frame: server.end())
        click.echo(server.url)
        messages.say(f"the page shows {explorer.model.name}; Ctrl-C ends it", quiet)
        if browser:
            threading.Thread(target=_open, args=[server.url], daemon=True).start()  # which may wait for the page
        server.serve()


def _open(url: str) -> None:
    """In a browser that has windows; one of text would take this terminal, unless it is asked for."""
    import os
    import webbrowser
    from contextlib import suppress

    with suppress(webbrowser.Error, OSError):
        found = webbrowser.get()
        if type(found) is not webbrowser.GenericBrowser or "BROWSER" in os.environ:
            found.open(url)
