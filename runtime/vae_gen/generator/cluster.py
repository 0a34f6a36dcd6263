"""A Dask cluster that is there already, as an executor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vae_gen.errors import MissingExtraError, OutputError

if TYPE_CHECKING:
    from concurrent.futures import Executor

TIMEOUT = 5  # seconds to answer


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
    import logging

    # They tell, with tracebacks, of lost results that are made again, of what is raised anyway, and of results that
    # come when they have been cancelled.
    for name in ("distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=TIMEOUT)
    except (OSError, TypeError, ValueError) as error:
        raise OutputError(f"there is no Dask scheduler at {address}: {error}") from error
    with client:
        yield client.get_executor(pure=False)
