"""Standard output as a store: one file goes down the pipe, and that is all it holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from vae_gen.errors import OutputError, UsageError
from vae_gen.stores.destinations import STDOUT

if TYPE_CHECKING:
    from vae_gen.stores import Folder

NAME = "standard output"


@dataclass(frozen=True)
class StdoutStore:
    """See Store. What is written to any name but "-" goes nowhere; nothing can be read back.

    Raises UsageError if standard output is a terminal.
    """

    def __post_init__(self) -> None:
        if sys.stdout.isatty():
            raise UsageError("--out - would fill this terminal with bytes; add > FILE or | PROGRAM, or name a file")

    def is_new(self) -> bool:
        return False

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """Standard output itself. What is written before an exception stays written."""
        try:
            with open(sys.stdout.fileno() if name == STDOUT else os.devnull, "wb", closefd=name != STDOUT) as file:
                yield file
        except OSError as error:
            raise OutputError(f"cannot write to {NAME}: {error.strerror or error}") from error

    def create_folder(self, name: str, label: str = "") -> AbstractContextManager[Folder]:
        raise UsageError(f"{NAME} cannot be a folder")

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        raise UsageError(f"{NAME} cannot be read")

    def names(self, folder: str = "") -> list[str]:
        return []

    def holds(self, name: str) -> bool:
        return False

    def remove(self, name: str) -> None:
        pass

    def sweep(self, names: Iterable[str]) -> None:
        pass

    def lock(self, name: str, wait: bool = False, beside: bool = False) -> AbstractContextManager[None]:
        return nullcontext()

    def path(self, name: str) -> str:
        return NAME
