"""How a run is cut into parts: what is made, published and hashed as one."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import overload

from vae_gen.defaults import INDEX_DIGITS
from vae_gen.errors import UsageError
from vae_gen.generator.indices import Indices

IMAGES_PER_FOLDER = 10_000
FOLDER_DIGITS = 5  # with the 4 digits of 10,000 images, the 9 of a file's name
PART_DIGITS = 6
STATE = ".vae-gen"  # the folder in --out that a run keeps while it is unfinished
MANIFEST = re.compile(r"manifest(\.\d+-of-\d+)?\.json")  # of a run in a folder, or of its shard
CLAIM = re.compile(r"run(\.\d+-of-\d+)?\.json")  # in STATE, while it is unfinished
OF_A_SHARD = re.compile(r".*\.(\d+)-of-(\d+)\.json", re.DOTALL)  # a manifest or a claim
GRID = "grid.png"  # the contact sheet
LATENTS = "latents.npy"


@dataclass(frozen=True)
class Part:
    """One file of many images, or one folder of PNG files."""

    number: int  # among all parts of the run, from 0
    name: str  # within --out; empty for files right in it
    stem: str  # begins the names of what stands beside it
    indices: Indices
    latents_name: str = ""  # the file with the latents of its images; empty if there is none

    @property
    def has_folder(self) -> bool:
        """Whether it is a folder of its own."""
        return self.name.isdecimal()

    @property
    def is_file(self) -> bool:
        """Whether it is one file, and not several in a folder."""
        return bool(self.name) and not self.has_folder

    @property
    def record_name(self) -> str:
        """The file that says, of an unfinished run, that this part is complete."""
        return f"{STATE}/{self.number:06d}.json"

    @property
    def files(self) -> list[str]:
        """The names in --out of all that it is."""
        images = [self.name] if self.name else [*map(picture_name, self.indices)]
        return [*images, self.latents_name] if self.latents_name else images


def stem_of(file: str, format: str) -> str:
    """The name of a file without its suffix, which is that of its format."""
    return file[: -len(f".{format}")]


def claimed_by(claim: str) -> str:
    """The name of the manifest that the run or shard will have that has left this claim."""
    return claim.replace(f"{STATE}/run", "manifest", 1)


def latents_beside(file: str, format: str) -> str:
    """The name of the latents of a run's only file."""
    return beside(stem_of(file, format), LATENTS)


def grid_beside(file: str, format: str) -> str:
    """The name of the contact sheet of a run's only file, or without one that of a run in a folder."""
    return beside(stem_of(file, format), GRID)


def manifest_beside(file: str) -> str:
    """The name of the manifest of a run's only file, or without one that of a run in a folder."""
    return beside(file, "manifest.json")


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


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which images a run, or one shard of it, makes, and in which files. UsageError if there is no such shard."""

    indices: Indices  # of the whole run
    format: str = "png"
    part_size: int | None = None  # images in a container file; None: all that a shard makes
    shard: int = 0
    shards: int = 1
    file: str = ""  # the name of the only file, where it has been given one
    latents: bool = False  # write latents beside images
    grid: tuple[int, int] | None = None  # rows and columns of the contact sheet, which shard 0 makes

    def __post_init__(self) -> None:
        if not 0 <= self.shard < self.shards:
            raise UsageError(f"shard is {self.shard}/{self.shards}; n shards are numbered 0/n to n-1/n")

    @cached_property
    def parts(self) -> Parts:
        """Those that this shard makes: neighbours, and as many as the others make or one more."""
        total = self.all_parts.total
        return self.all_parts[total * self.shard // self.shards : total * (self.shard + 1) // self.shards]

    @cached_property
    def all_parts(self) -> Parts:
        """Of the whole run.

        A container holds `part_size` images, or a shard's share of them. PNG files stand in folders of 10,000 by their
        index, or, if there are no more than 10,000 in all, right in --out. A single one can have a name instead.
        """
        count = self.indices.count
        if self.format != "png" or self.file:
            size = self.part_size or -(-count // self.shards)
            return Parts(partial(self._container, size), range(-(-count // size)))
        if count <= IMAGES_PER_FOLDER:  # cut for as many shards as have an image to make
            pieces = min(self.shards, count)
            return Parts(partial(self._piece, pieces), range(pieces))
        # How many folders there are up to the end of each range; a range may begin in the one where the last one ended.
        ends: list[int] = []
        last = -1  # folder
        for each in self.indices.ranges:
            first, before = each.start // IMAGES_PER_FOLDER, last
            last = (each.stop - 1) // IMAGES_PER_FOLDER
            ends.append((ends[-1] if ends else 0) + last - max(first, before + 1) + 1)
        return Parts(partial(self._folder, ends), range(ends[-1]))

    def _part(self, number: int, name: str, stem: str, indices: Indices) -> Part:
        return Part(number, name, stem, indices, beside(stem, LATENTS) if self.latents else "")

    def _container(self, size: int, number: int) -> Part:
        name = self.file or f"{number:0{PART_DIGITS}d}.{self.format}"
        indices = self.indices.slice(number * size, (number + 1) * size)
        return self._part(number, name, stem_of(name, self.format), indices)

    def _piece(self, pieces: int, number: int) -> Part:
        stem = f"{number:0{PART_DIGITS}d}" if pieces > 1 else ""
        first, stop = (self.indices.count * end // pieces for end in (number, number + 1))
        return self._part(number, "", stem, self.indices.slice(first, stop))

    def _folder(self, ends: list[int], number: int) -> Part:
        place = bisect_right(ends, number)  # the range in which the folder is counted
        folder = (self.indices.ranges[place].stop - 1) // IMAGES_PER_FOLDER - (ends[place] - 1 - number)
        first = folder * IMAGES_PER_FOLDER
        name = folder_name(folder)
        return self._part(number, name, name, self.indices.between(first, first + IMAGES_PER_FOLDER))

    @property
    def manifest_name(self) -> str:
        """The file that says what the run or its shard has made."""
        return manifest_beside(self.file) if self.file else f"manifest{self._shard_name}.json"

    @property
    def claim_name(self) -> str:
        """The file that says, while the run or its shard is unfinished, what it makes."""
        if self.file:
            return self.manifest_name  # which lists no parts as long as there is none
        return f"{STATE}/run{self._shard_name}.json"

    @property
    def _shard_name(self) -> str:
        return f".{self.shard:04d}-of-{self.shards:04d}" if self.shards > 1 else ""

    @property
    def grid_name(self) -> str:
        """Of the contact sheet; empty if the run has none."""
        return grid_beside(self.file, self.format) if self.grid else ""

    @property
    def makes_grid(self) -> bool:
        """Whether the contact sheet is this shard's."""
        return self.grid is not None and self.shard == 0


def folder_name(folder: int) -> str:
    """The folder of the images 10,000 * folder ... 10,000 * folder + 9,999."""
    return f"{folder:0{FOLDER_DIGITS}d}"


def picture_name(index: int) -> str:
    return f"{index:0{INDEX_DIGITS}d}.png"
