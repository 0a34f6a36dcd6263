"""Where pictures for training lie: in a folder and those below it, or in zip and tar archives, as if unpacked.

Which pictures are for what: those in sub-folders called train and test (and validation, val or valid) as they are;
otherwise, and for what is missing, by the hash of each file's path in the folder. So a folder that is sorted by
class is split evenly, every machine splits it alike, and a new picture moves few others.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vae_gen.archives import ARCHIVE_SUFFIXES, open_archive
from vae_gen.defaults import CHECKPOINT
from vae_gen.errors import DataError
from vae_gen.picture_files import picture_suffixes, walk

SPLIT_FOLDERS = {
    "test": "test",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "train": "train",
}
ORDER = ("test", "validation", "train")  # of the splits in the cache
# What the name of an archive has after its split's: train.zip, train-000012.tar
AFTER_SPLIT = re.compile(rf"([-_]?[0-9]+)?({'|'.join(map(re.escape, ARCHIVE_SUFFIXES))})$")


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A file that is a picture, or may be one. There may be millions of them."""

    name: str  # its path in the source, the same on every machine
    split: str  # the split whose folder it is in; "train" where there are no such folders
    size: int  # bytes

    @property
    def sure(self) -> bool:
        """Whether it is named as a picture; without a suffix it may be anything."""
        return bool(PurePosixPath(self.name).suffix)

    @property
    def order(self) -> tuple[int, bytes]:
        name = unicodedata.normalize("NFC", self.name).encode("utf-8", "surrogateescape")
        return ORDER.index(self.split), hashlib.sha256(name).digest()


@dataclass(frozen=True)
class Listing:
    """What lies in a source."""

    pictures: list[PictureFile]  # in the order of the cache
    others: Counter[str]  # files that are no pictures; by suffix, or in words
    open: Callable[[str], Path | BinaryIO]  # the picture of that name, for Pillow, in any thread


@dataclass(frozen=True)
class PictureSource:
    """Pictures that lie together."""

    path: Path
    state: str  # a hash that is another when a picture is changed, added, removed or renamed
    listing: Callable[[], AbstractContextManager[Listing]]  # which raises DataError


def pictures_in_folder(folder: Path) -> PictureSource:
    """Those in a folder and below it but for hidden ones, or else those in its archives. Raises OSError."""
    found = dict(walk(folder))
    listing = _listing({name: status.st_size for name, status in found.items()}, lambda name: folder / name)
    archives = [name for name in found if name.lower().endswith(ARCHIVE_SUFFIXES)]
    if archives and not any(file.sure for file in listing.pictures):
        return _in_archives(folder, {f"{name}/": folder / name for name in archives})
    state = _hash([file.name, file.split, *_changes(found[file.name])] for file in listing.pictures)
    return PictureSource(folder, state, lambda: nullcontext(listing))


def pictures_in_archive(path: Path) -> PictureSource:
    """Those in a zip or tar archive. Raises OSError; what is wrong with it is said when it is listed."""
    return _in_archives(path, {"": path})


def _in_archives(path: Path, archives: Mapping[str, Path]) -> PictureSource:
    """Those in archives, with so much before their names."""
    state = _hash([prefix, *_changes(archive.stat())] for prefix, archive in archives.items())
    return PictureSource(path, state, partial(_opened, archives))


@contextmanager
def _opened(archives: Mapping[str, Path]) -> Iterator[Listing]:
    sizes: dict[str, int] = {}
    read: dict[str, Callable[[], bytes]] = {}
    with ExitStack() as stack:
        for prefix, path in archives.items():
            archive = stack.enter_context(open_archive(path))
            if archive is None:
                raise DataError(
                    f"{path} is no .npy, .npz or IDX file, and no zip or tar archive; give --data one of these, or a "
                    "folder of pictures (not one picture)"
                )
            paths = {name: PurePosixPath(name) for name in archive.sizes}
            # As in a folder that is called otherwise: archives of a folder begin all names with its own.
            above = os.path.commonpath([file.parent for file in paths.values()]) if paths else ""
            for name, file in paths.items():
                shown = prefix + file.relative_to(above).as_posix()
                sizes[shown], read[shown] = archive.sizes[name], partial(archive.read, name)
        yield _listing(sizes, lambda name: io.BytesIO(read[name]()))


def _listing(sizes: Mapping[str, int], open: Callable[[str], Path | BinaryIO]) -> Listing:
    """Which of these files are pictures, and for what."""
    suffixes = picture_suffixes()
    others: Counter[str] = Counter()
    found, runs = [], []
    for name in sizes:
        path = PurePosixPath(name)
        suffix = path.suffix.lower()
        if path.name == CHECKPOINT:
            runs.append(name.removesuffix(CHECKPOINT))
        elif suffix in suffixes or not suffix:
            found.append(name)
        else:
            others[suffix] += 1
    if runs:
        count = len(runs) + len(found)
        found = [name for name in found if not name.startswith(tuple(runs))]
        others["of training runs"] = count - len(found)
    tops = {name.partition("/")[0] for name in found if "/" in name}
    splits = {top: split for top in tops if (split := SPLIT_FOLDERS.get(AFTER_SPLIT.sub("", top.casefold())))}
    if not {"train"} < set(splits.values()):
        splits = {}  # a folder that happens to be called so
    pictures = []
    for name in found:
        top, slash, _ = name.partition("/")
        if splits and not (slash and top in splits):
            others["outside " + ", ".join(sorted(splits))] += 1
        else:
            pictures.append(PictureFile(name, splits.get(top, "train"), sizes[name]))
    pictures.sort(key=lambda file: (file.order, file.name))
    return Listing(pictures, others, open)


def _changes(status: os.stat_result) -> tuple[int, int, int]:
    """What is another when a file's content or its entry has been changed."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _hash(values: Iterable[list[str | int]]) -> str:
    digest = hashlib.sha256()
    for value in values:
        digest.update(json.dumps(value).encode())
    return digest.hexdigest()
