"""What is kept between runs: a folder of the user's, and in it the pixels of data sets, ready to be mapped."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vae_gen.errors import OutputError
from vae_gen.files import make_folder, whole_file
from vae_gen.images import ByteImages, ImageShape

CACHE_VARIABLE = "VAE_GEN_CACHE"
ABANDONED = 24 * 3600  # seconds without a change, after which a killed process has left a file half-written
VERSION = 4  # of what is kept of given files; a higher one reads all of them again


def cache_folder(name: str) -> Path:
    """Where things of that name are kept: in $VAE_GEN_CACHE, or in `vae-gen` in the user's cache folder.

    Raises OutputError if there is neither.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    try:
        return (Path(chosen) if chosen else _users_cache()) / name
    except RuntimeError as error:  # a process without a home
        raise OutputError(f"there is no home directory for a cache; set {CACHE_VARIABLE} to a folder") from error


def _users_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "vae-gen" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/vae-gen"
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))  # which the specification ignores unless it is absolute
    return (chosen if chosen.is_absolute() else Path.home() / ".cache") / "vae-gen"


@dataclass(frozen=True)
class Slot:
    """Where the pixels of one source are kept: SOURCE-STATE.npy, and SOURCE-STATE.json with what is known of them.

    The JSON file is written last, so that what it speaks of is whole. What is kept for another state of the same
    source is then removed.
    """

    source: str  # a hash of where the data lie and of the options
    state: str  # a hash of the files' names, sizes and times

    @classmethod
    def of(cls, source: object, state: object) -> Slot:
        """The slot for values that JSON can write."""
        return cls(*(hashlib.sha256(json.dumps(each).encode()).hexdigest()[:20] for each in (source, [VERSION, state])))

    @property
    def images(self) -> Path:
        return cache_folder("data") / f"{self.source}-{self.state}.npy"

    @property
    def about(self) -> Path:
        return self.images.with_suffix(".json")

    def read(self) -> dict[str, Any] | None:
        """What is known of the source in this state; None where nothing whole is kept."""
        try:
            known = json.loads(self.about.read_text("utf-8"))
            if known["in_cache"]:
                self.open_images()
        except (OutputError, OSError, ValueError, KeyError, TypeError):
            return None
        return dict(known)

    def open_images(self) -> ByteImages:
        """The images [n, C, H, W], mapped, not read. Raises OSError or ValueError if they are not there or cut."""
        images: ByteImages = np.asarray(np.load(self.images, mmap_mode="r"))
        return images

    def write_images(self, image_shape: ImageShape, chunks: Iterable[ByteImages]) -> None:
        """Write images [n, C, H, W] as they come, however many. Raises OutputError, and what `chunks` raises."""
        with _cache_errors():
            make_folder(self.images.parent)
            with whole_file(self.images) as partial, partial.open("wb") as file:
                count = 0
                _write_header(file, (0, *image_shape))
                for chunk in chunks:
                    file.write(np.ascontiguousarray(chunk).data)
                    count += len(chunk)
                file.seek(0)
                _write_header(file, (count, *image_shape))

    def write(self, known: dict[str, Any], in_cache: bool) -> None:
        """Keep what is known of the source; `in_cache` says that its images are too. Raises OutputError."""
        with _cache_errors():
            make_folder(self.about.parent)
            with whole_file(self.about) as partial:
                partial.write_text(json.dumps({**known, "in_cache": in_cache}, indent=2) + "\n", "utf-8")
        for path in self.about.parent.glob(f"{self.source}-*.*"):
            if path.suffix in (".npy", ".json") and path.stem != self.about.stem:
                with suppress(OSError):  # Windows keeps what a running training has mapped
                    path.unlink()
        for path in self.about.parent.glob(".*.partial"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED:
                    path.unlink()


def _write_header(file: Any, shape: tuple[int, ...]) -> None:
    """NumPy pads the header so that it can be replaced when the first axis has grown."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


@contextmanager
def _cache_errors() -> Iterator[None]:
    """Within it, an OutputError also says how to move the cache."""
    try:
        yield
    except OutputError as error:
        raise OutputError(f"{error}; set {CACHE_VARIABLE} to a folder that can be written and has room") from error
