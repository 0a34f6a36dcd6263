"""The command line: one file a command, loaded when it is called, and one place where errors are shown."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

import click

from vae_gen.errors import StoppedError, VaeGenError, did_you_mean
from vae_gen.version import __version__

CLOSED_PIPE = (errno.EPIPE, errno.EINVAL) if os.name == "nt" else (errno.EPIPE,)
# What writing to standard output can fail with.
OF_PIPES_AND_DISKS = (None, *CLOSED_PIPE, errno.EBADF, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# The commands by name, in the order of the help page. train, export and simplify live in packages that this one never
# imports, so they are named here as text, as a plugin is.
COMMANDS = {
    "sample": "vae_gen.cli.sample:sample",
    "verify": "vae_gen.cli.verify:verify",
    "decode": "vae_gen.cli.decode:decode",
    "encode": "vae_gen.cli.encode:encode",
    "traverse": "vae_gen.cli.traverse:traverse",
    "interpolate": "vae_gen.cli.interpolate:interpolate",
    "explore": "vae_gen.cli.explore:explore",
    "reconstruct": "vae_gen.cli.reconstruct:reconstruct",
    "evaluate": "vae_gen.cli.evaluate:evaluate",
    "models": "vae_gen.cli.models:models",
    "info": "vae_gen.cli.info:info",
    "bench": "vae_gen.cli.bench:bench",
    "train": "vae_gen_train.cli:train",
    "export": "vae_gen_export.cli.export:export",
    "simplify": "vae_gen_export.cli.simplify:simplify",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        meant = "" if args[0] in COMMANDS or ctx.resilient_parsing else did_you_mean(args[0], COMMANDS)
        if meant:
            ctx.fail(f"No such command {args[0]!r}{meant}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vae-gen", message="%(prog)s %(version)s", help="Show the version.")
def cli() -> None:
    """Make images with a variational autoencoder.

    \b
    vae-gen sample --n 100 --out out/     100 images from a model that ships
    vae-gen traverse --dim 7              what latent 7 does, as a GIF
    vae-gen train --out runs/mine         a model of your own
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 (failed), 2 (wrong usage) or 130 (Ctrl-C)."""
    _reopen_closed_streams()
    _show_what_is_no_text()
    try:
        status = cli.main(arguments, prog_name="vae-gen", standalone_mode=False)
        sys.stdout.flush()
    except (click.ClickException, click.Abort, VaeGenError, OSError, MemoryError) as error:
        return _show(error)
    return status if isinstance(status, int) else 0


def _show(error: Exception) -> int:
    """Tell the person what went wrong; the exit status for it."""
    status = getattr(error, "exit_code", 1)
    match error:
        case click.ClickException():
            error.show()
            return status
        case StoppedError():
            message = f"Stopped: {error}"
        case VaeGenError():
            message = f"Error: {error}"
        case click.Abort():  # click's word for KeyboardInterrupt
            status, message = 128 + signal.SIGINT, "Interrupted"
        case MemoryError():
            message = "Error: there is not enough memory; ask for less at a time, or for smaller pictures"
        case OSError(filename=str(name)):
            message = f"Error: {name}: {error.strerror}"
        case OSError(errno=number) if number not in OF_PIPES_AND_DISKS:
            message = f"Error: {error.strerror or error}"
        case _:
            _close_stdout()
            if getattr(error, "errno", None) in CLOSED_PIPE:  # who closed it knows
                return status
            message = f"Error: standard output: {error}"
    click.echo(message, err=True)
    return status


def _close_stdout() -> None:
    """Python writes what is left of stdout when it exits; where that failed once, let it go nowhere."""
    with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _reopen_closed_streams() -> None:
    """Standard streams that whoever started this process has closed lead nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115, it stays open


def _show_what_is_no_text() -> None:
    """A file's name with bytes that are no text, or letters that the terminal lacks, is printed as stderr has it."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="backslashreplace")


def entry_point() -> None:
    """The program `vae-gen`."""
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):  # the last is Windows'
        number = getattr(signal, name, None)
        # Leave by the way on which half-written files are removed, unless nohup or the like said to go on.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        status = main()
    except KeyboardInterrupt:  # before or after click, which has its own way with it
        status = 128 + signal.SIGINT
    _exit(status)


def _exit(status: int) -> None:
    """End the process; where nothing waits to be cleaned up, without the 25 ms that Python takes to undo imports."""
    if "multiprocessing" not in sys.modules:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    sys.exit(status)
