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
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vae_gen.data.archives import ARCHIVE_SUFFIXES, open_archive
from vae_gen.data.picture_files import is_picture, may_be_picture, picture_suffixes, walk
from vae_gen.defaults import CHECKPOINT
from vae_gen.errors import DataError

SPLIT_FOLDERS = {
    "test": "test",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "train": "train",
}
ORDER = ("test", "validation", "train")  # of the splits in the cache
# train.zip, photos-train.tar, train-000012.tar, val-00012-of-00100.tar
ARCHIVE_OF_SPLIT = re.compile(
    rf"(?:.*[-_])?({'|'.join(SPLIT_FOLDERS)})(?:[-_]?[0-9]+(?:-of-[0-9]+)?)?"
    rf"(?:{'|'.join(map(re.escape, ARCHIVE_SUFFIXES))})"
)


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
    """Those in a folder and below it but for hidden ones; where are none, those in its archives. Raises OSError."""
    found = dict(walk(folder))
    files = {name: (status.st_size, _top(name)) for name, status in found.items()}
    listing = _listing(files, lambda name: folder / name)
    archives = [name for name in found if name.lower().endswith(ARCHIVE_SUFFIXES)]
    suffixes = picture_suffixes()
    if archives and not any(is_picture(folder / file.name, suffixes) for file in listing.pictures):
        return _in_archives(folder, archives, len(found) - len(archives))
    state = _hash([file.name, file.split, *_changes(found[file.name])] for file in listing.pictures)
    return PictureSource(folder, state, lambda: nullcontext(listing))


def pictures_in_archive(path: Path) -> PictureSource:
    """Those in a zip or tar archive. Raises OSError; what is wrong with it is said when it is listed."""
    return _in_archives(path, [""], 0)


def _in_archives(path: Path, names: Sequence[str], others: int) -> PictureSource:
    """Those in the archives of these names in a folder, beside so many other files; or in the one that is at `path`."""
    state = _hash([name, *_changes((path / name).stat())] for name in names)
    return PictureSource(path, state, partial(_opened, path, names, others))


@contextmanager
def _opened(path: Path, names: Sequence[str], others: int) -> Iterator[Listing]:
    files: dict[str, tuple[int, str]] = {}
    read: dict[str, Callable[[], bytes]] = {}
    are_splits = "train" in {_split_of(_top(f"{name}/")) for name in names}
    with ExitStack() as stack:
        for name in names:
            archive = stack.enter_context(open_archive(path / name))
            if archive is None and name:
                raise DataError(f"{path / name} is no zip or tar archive; remove it, or give --data another folder")
            if archive is None:
                raise DataError(
                    f"{path} is no .npy, .npz or IDX file, and no zip or tar archive; give --data one of these, or a "
                    "folder of pictures (not one picture)"
                )
            prefix = f"{name}/" if len(names) > 1 else ""
            # As in a folder that is called otherwise: archives of a folder begin all names with its own.
            above = posixpath.commonpath(map(posixpath.dirname, archive.sizes)) if archive.sizes else ""
            for file, size in archive.sizes.items():
                inner = file[len(above) :].lstrip("/")
                shown = prefix + inner
                files[shown] = size, _top(shown if are_splits else inner)
                read[shown] = partial(archive.read, file)
        listing = _listing(files, lambda name: io.BytesIO(read[name]()))
        if others:
            listing.others["beside the archives"] = others
        yield listing


def _listing(files: Mapping[str, tuple[int, str]], open: Callable[[str], Path | BinaryIO]) -> Listing:
    """Which of these files, of such a size and in such a folder or archive, are pictures, and for what."""
    suffixes = picture_suffixes()
    others: Counter[str] = Counter()
    found, runs = [], []
    for name in files:
        path = PurePosixPath(name)
        if path.name == CHECKPOINT:
            runs.append(name.removesuffix(CHECKPOINT))
        elif may_be_picture(name, files[name][0], suffixes):
            found.append(name)
        else:
            others[path.suffix.lower() or "without a suffix"] += 1
    if runs:
        count = len(runs) + len(found)
        found = [name for name in found if not name.startswith(tuple(runs))]
        others["of training runs"] = count - len(found)
    splits = {top: split for top in {files[name][1] for name in found} if (split := _split_of(top))}
    if not {"train"} < set(splits.values()):
        splits = {}  # a folder that happens to be called so
    pictures = []
    for name in found:
        size, top = files[name]
        if splits and top not in splits:
            others["outside " + ", ".join(sorted(splits))] += 1
        else:
            pictures.append(PictureFile(name, splits.get(top, "train"), size))
    pictures.sort(key=lambda file: (file.order, file.name))
    return Listing(pictures, others, open)


def _top(name: str) -> str:
    """The first folder in a path, or the archive; "" for what lies in none."""
    return name.partition("/")[0] if "/" in name else ""


def _split_of(top: str) -> str | None:
    top = top.casefold()
    if match := ARCHIVE_OF_SPLIT.fullmatch(top):
        top = match[1]
    return SPLIT_FOLDERS.get(top)


def _changes(status: os.stat_result) -> tuple[int, int, int]:
    """What is another when a file's content or its entry has been changed."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _hash(values: Iterable[list[str | int]]) -> str:
    digest = hashlib.sha256()
    for value in values:
        digest.update(json.dumps(value).encode())
    return digest.hexdigest()
