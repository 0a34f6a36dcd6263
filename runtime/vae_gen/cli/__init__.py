"""The command line: one file a command, loaded when it is called, and one place where errors are shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module, metadata

import click

from vae_gen.errors import VaeGenError

INTERRUPTED = 130  # 128 + SIGINT, as shells count

# The commands by name, in the order of the help page. train and export live in packages that this one never
# imports, so they are named here as text, as a plugin is.
COMMANDS = {
    "sample": "vae_gen.cli.sample:sample",
    "decode": "vae_gen.cli.decode:decode",
    "encode": "vae_gen.cli.encode:encode",
    "traverse": "vae_gen.cli.traverse:traverse",
    "reconstruct": "vae_gen.cli.reconstruct:reconstruct",
    "models": "vae_gen.cli.models:models",
    "info": "vae_gen.cli.info:info",
    "train": "vae_gen_train.cli:train",
    "export": "vae_gen_export.cli:export",
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


def _version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"vae-gen {metadata.version('vae-gen')}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def cli() -> None:
    """Make images with a variational autoencoder.

    \b
    vae-gen sample --n 100 --out out/     100 images from a model that ships
    vae-gen traverse --dim 7              what latent 7 does, as a GIF
    vae-gen train --out runs/mine         a model of your own
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 (failed), 2 (wrong usage) or 130 (Ctrl-C)."""
    try:
        status = cli.main(arguments, prog_name="vae-gen", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except VaeGenError as error:
        click.echo(f"Error: {error}", err=True)
        return error.exit_code
    except OSError as error:
        # Python writes what is left of stdout when it exits; where that failed once, it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # who closed the pipe knows
            click.echo(f"Error: {error}", err=True)
        return 1
    except (KeyboardInterrupt, click.Abort) as interruption:
        click.echo(f"Interrupted: {interruption}" if str(interruption) else "Interrupted", err=True)
        return INTERRUPTED


def entry_point() -> None:
    sys.exit(main())
