"""How a run is cut into parts: what is made, published and hashed as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import overload

from vae_gen.defaults import SUFFIXES
from vae_gen.errors import UsageError
from vae_gen.indices import Indices

IMAGES_PER_FOLDER = 10_000
FOLDER_DIGITS = 5  # with the 4 digits of 10,000 images, the 9 of a file's name
PART_DIGITS = 6
MOST_IN_IDX = 2**32 - 1  # images, as the header counts them
STATE = ".vae-gen"  # the folder in --out that a run keeps while it is unfinished
GRID = "grid.png"  # the contact sheet
LATENTS = "latents.npy"


@dataclass(frozen=True)
class Part:
    """One file of many images, or one folder of PNG files."""

    number: int  # among all parts of the run, from 0
    name: str  # within --out; empty for files right in it
    stem: str  # begins the names of what stands beside it
    indices: Indices

    @property
    def has_folder(self) -> bool:
        """Whether it is a folder of its own."""
        return bool(self.name) and "." not in self.name  # files have suffixes

    @property
    def record_name(self) -> str:
        """The file that says, of an unfinished run, that this part is complete."""
        return f"{STATE}/{self.number:06d}.json"

    @property
    def latents_name(self) -> str:
        """The file with the latents of its images."""
        return beside(self.stem, LATENTS)


def latents_beside(file: str, format: str) -> str:
    """The name of the latents of a run's only file."""
    return beside(file[: -len(SUFFIXES[format])], LATENTS)


def beside(stem: str, name: str) -> str:
    """The name of what stands beside images whose files begin with `stem`, which may be empty."""
    return f"{stem}.{name}" if stem else name


class Parts(Sequence[Part]):
    """Parts that follow one another, each worked out when it is asked for: a billion of them cost nothing."""

    def __init__(self, part_of: Callable[[int], Part], numbers: range) -> None:
        self._part_of = part_of
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def total(self) -> int:
        """Their number, where len() fails: beyond 2**63 - 1."""
        return self._numbers.stop - self._numbers.start

    @overload
    def __getitem__(self, position: int) -> Part: ...

    @overload
    def __getitem__(self, position: slice) -> Parts: ...

    def __getitem__(self, position: int | slice) -> Part | Parts:
        found = self._numbers[position]
        return self._part_of(found) if isinstance(found, int) else Parts(self._part_of, found)


def cut(indices: Indices, format: str, part_size: int | None, shards: int, file: str = "") -> Parts:
    """All parts of a run; shard i of n makes those that `share` says.

    A container holds `part_size` images, or a shard's share of them. PNG files stand in folders of 10,000 by their
    index, or, if there are no more than 10,000 in all, right in --out. `file` names the only part.
    """
    if format == "png":
        return _folders(indices) if indices.count > IMAGES_PER_FOLDER else _files(indices, shards)
    size, suffix = part_size or -(-indices.count // shards), SUFFIXES[format]
    if file:
        return Parts(partial(_named, file, file[: -len(suffix)], indices), range(1))
    return Parts(partial(_container, indices, suffix, size), range(-(-indices.count // size)))


def share(parts: Parts, shard: int, shards: int) -> Parts:
    """The parts that shard 0 ... shards - 1 makes: neighbours, and as many as the others or one more."""
    check_shard(shard, shards)
    return parts[parts.total * shard // shards : parts.total * (shard + 1) // shards]


def check_idx_count(count: int) -> None:
    """Raise UsageError if an IDX file cannot hold so many images."""
    if count > MOST_IN_IDX:
        raise UsageError(
            f"the format idx counts images in 32 bits, so that a file holds at most {MOST_IN_IDX:,}, not {count:,}; "
            "choose npy, or write several files"
        )


def check_shard(shard: int, shards: int) -> None:
    """Raise UsageError unless there is such a shard."""
    if not 0 <= shard < shards:
        raise UsageError(f"shard is {shard}/{shards}; n shards are numbered 0/n to n-1/n")


def _named(file: str, stem: str, indices: Indices, number: int) -> Part:
    return Part(number, file, stem, indices)


def _container(indices: Indices, suffix: str, size: int, number: int) -> Part:
    stem = f"{number:0{PART_DIGITS}d}"
    return Part(number, stem + suffix, stem, indices.slice(number * size, (number + 1) * size))


def _folders(indices: Indices) -> Parts:
    # How many folders there are up to the end of each range; a range may begin in the folder where the last one ended.
    ends: list[int] = []
    last = -1  # folder
    for each in indices.ranges:
        first, before = each.start // IMAGES_PER_FOLDER, last
        last = (each.stop - 1) // IMAGES_PER_FOLDER
        ends.append((ends[-1] if ends else 0) + last - max(first, before + 1) + 1)
    return Parts(partial(_folder, indices, ends), range(ends[-1]))


def _folder(indices: Indices, ends: list[int], number: int) -> Part:
    place = bisect_right(ends, number)  # the range in which the folder is counted
    folder = (indices.ranges[place].stop - 1) // IMAGES_PER_FOLDER - (ends[place] - 1 - number)
    first = folder * IMAGES_PER_FOLDER
    name = folder_name(folder)
    return Part(number, name, name, indices.between(first, first + IMAGES_PER_FOLDER))


def _files(indices: Indices, shards: int) -> Parts:
    """Files right in --out, cut for as many shards as have an image to make."""
    pieces = min(shards, indices.count)
    return Parts(partial(_piece, indices, pieces), range(pieces))


def _piece(indices: Indices, pieces: int, number: int) -> Part:
    stem = f"{number:0{PART_DIGITS}d}" if pieces > 1 else ""
    first, stop = (indices.count * end // pieces for end in (number, number + 1))
    return Part(number, "", stem, indices.slice(first, stop))


def folder_name(folder: int) -> str:
    """The folder of the images 10,000 * folder ... 10,000 * folder + 9,999."""
    return f"{folder:0{FOLDER_DIGITS}d}"
