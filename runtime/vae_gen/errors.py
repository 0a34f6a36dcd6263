"""What the library raises. It never prints or exits: the command line's one boundary does."""

from __future__ import annotations

import copyreg
from collections.abc import Iterable
from typing import Any

from vae_gen.defaults import FORMATS


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about a mistyped word: a question after the one most like it; nothing if none is."""
    from difflib import get_close_matches  # for such a message alone

    return "".join(f"; did you mean {name}?" for name in get_close_matches(word.lower(), list(known), n=1))


class VaeGenError(Exception):
    """Something could not be done; the message names the value, what is allowed and the next step.

    `exit_code` is what the command line returns for it.
    """

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        # On its way from another process an error is its message, whatever its class is constructed from.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class UsageError(VaeGenError):
    """A value that was asked for is not allowed; nothing has been read or written."""

    exit_code = 2


class BundleError(VaeGenError):
    """A model's files are missing, damaged, or do not belong together."""


class DataError(VaeGenError):
    """A picture, an array or a data set cannot be read or does not fit."""


class NetworkError(VaeGenError):
    """A network that someone brought cannot be imported, run or traced, or does not do what a bundle's must."""


class OutputError(VaeGenError):
    """A result cannot be written where it was asked for."""


class StoppedError(VaeGenError):
    """A signal asked a long job to stop; what it had done is saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number  # as shells count


class MissingExtraError(VaeGenError):
    """A command needs packages that a plain `pip install vae-gen` does not bring."""

    def __init__(self, task: str, package: str, extra: str, needs: str = "PyTorch and the packages around it") -> None:
        super().__init__(
            f"{task} needs {needs}, and {package!r} is not installed here; "
            f'install them with: pip install "vae-gen[{extra}]"'
        )


def unknown_format(format: str) -> UsageError:
    """The error that says which formats there are."""
    return UsageError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
