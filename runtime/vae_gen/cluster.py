"""A Dask cluster that is there already, as an executor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vae_gen.destinations import STDOUT
from vae_gen.errors import MissingExtraError, OutputError

if TYPE_CHECKING:
    from concurrent.futures import Executor


@contextmanager
def cluster(address: str | None) -> Iterator[Executor | None]:
    """The executor of the Dask cluster whose scheduler is at `address`; None without an address.

    Raises MissingExtraError where Dask is not installed, OutputError if there is no scheduler.
    """
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingExtraError("--dask", "distributed", "dask", needs="Dask") from error
    try:
        client = Client(address)
    except (OSError, ValueError) as error:
        raise OutputError(f"there is no Dask scheduler at {address}: {error}") from error
    with client:
        yield client.get_executor(pure=False)


def from_anywhere(path: str) -> str:
    """A path that workers with other working directories understand; a URL, or -, is one already."""
    return path if "://" in path or path == STDOUT else str(Path(path).absolute())
