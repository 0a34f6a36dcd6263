"""Where results go by name: a local directory, or any URL that fsspec knows.

store = open_store("s3://bucket/prefix")
with store.create("000012.npy") as file:
    file.write(content)
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from vae_gen.errors import UsageError
from vae_gen.stores.destinations import STDOUT
from vae_gen.stores.local import LocalStore
from vae_gen.stores.stdout import StdoutStore

LOCAL_SCHEMES = ("file", "local")


class Folder(Protocol):
    def write(self, name: str, content: bytes) -> None:
        """Make the file `name` in this folder. Raises OutputError."""


class Store(Protocol):
    """A place for named results. What is written appears under its name whole, or not at all.

    "/" in a name separates folders, which are made as needed. Whatever a store cannot write or remove is an
    OutputError, whatever it cannot read a DataError; other exceptions pass through the blocks as they are.
    """

    def is_new(self) -> bool:
        """Whether nothing is there, and what `create_folder` makes of the top will appear as a whole."""

    def create(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file to write front to back; it takes its name when the block ends, unless by an exception."""

    def create_folder(self, name: str, label: str = "") -> AbstractContextManager[Folder]:
        """A folder for many small files, which may be published one by one or together; "" is the top itself.

        If the block ends by an exception, a local folder does not appear, and a remote one has some of its files.
        A local folder that is there is replaced; a remote one, and the top, keep what is not written again.
        `label` tells several writers of the top apart, for `sweep`.
        """

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """The file `name` to read; seekable."""

    def names(self, folder: str = "") -> list[str]:
        """The sorted names of files and folders directly in `folder`; none where there is nothing.

        What file managers leave in the local folders that they have shown is not listed.
        """

    def holds(self, name: str) -> bool:
        """Whether there is a file or a folder `name`. Some disks take A for a.

        DataError where nobody can tell.
        """

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all in it; nothing if it is not there."""

    def sweep(self, names: Iterable[str]) -> None:
        """Remove what killed processes left unpublished of these names.

        Nothing may be writing them: what a living process has not published yet looks the same.
        """

    def lock(self, name: str, wait: bool = False, beside: bool = False) -> AbstractContextManager[None]:
        """A block that one process at a time may be in, for each name; OutputError if another is, unless to `wait`.

        Its file stands in the top, or `beside` it, for all names, where the top is not to be made.

        A killed process leaves it. Only a local directory knows of others; elsewhere it is up to the user.
        """

    def path(self, name: str) -> str:
        """What messages call `name`."""


def open_store(out: str) -> Store:
    """The store at `out`: a directory, a URL (s3://bucket/prefix, gs://, memory://, file://), or - for standard output.

    Nothing is made or asked for yet. Stores are picklable.
    Raises UsageError for a URL that fsspec does not know, or a local one without its path from / on, MissingExtraError
    where its packages are not installed.
    """
    if out == STDOUT:
        return StdoutStore()
    scheme, separator, path = out.partition("://")
    if not separator:
        return LocalStore(out)
    if scheme in LOCAL_SCHEMES:  # fsspec's own stages in the folder for temporary files, perhaps on another disk
        if not path.startswith("/"):  # it would be a folder below the current one, and below a worker's
            raise UsageError(f"{out} has no path from / on; write {scheme}:///folder, or a path that is no URL")
        return LocalStore(path[1:] if os.path.splitdrive(path[1:])[0] else path)  # file:///C:/folder
    from vae_gen.stores.remote import RemoteStore

    return RemoteStore(out)
