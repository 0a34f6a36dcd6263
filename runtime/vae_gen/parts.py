"""How a run is cut into parts: what is made, published and hashed as one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from vae_gen.defaults import SUFFIXES
from vae_gen.errors import UsageError
from vae_gen.indices import Indices

IMAGES_PER_FOLDER = 10_000
FOLDER_DIGITS = 5  # with the 4 digits of 10,000 images, the 9 of a file's name
PART_DIGITS = 6
STATE = ".vae-gen"  # the folder in --out that a run keeps while it is unfinished


@dataclass(frozen=True)
class Part:
    """One file of many images, or one folder of PNG files."""

    number: int  # among all parts of the run, from 0
    name: str  # within --out; empty for files right in it
    stem: str  # begins the names of what stands beside it
    indices: Indices

    @property
    def record_name(self) -> str:
        """The file that says, of an unfinished run, that this part is complete."""
        return f"{STATE}/{self.number:06d}.json"

    @property
    def latents_name(self) -> str:
        """The file with the latents of its images."""
        return f"{self.stem}.latents.npy" if self.stem else "latents.npy"


def cut(indices: Indices, format: str, part_size: int | None, shards: int, file: str = "") -> list[Part]:
    """All parts of a run; shard i of n makes those that `share` says.

    A container holds `part_size` images, or a shard's share of them. PNG files stand in folders of 10,000 by their
    index, or, if there are no more than 10,000 in all, right in --out. `file` names the only part.
    """
    if format == "png":
        return _folders(indices) if indices.count > IMAGES_PER_FOLDER else _files(indices, shards)
    size = part_size or -(-indices.count // shards)
    if file:
        return [Part(0, file, file[: -len(SUFFIXES[format])], indices)]
    stems = (f"{number:0{PART_DIGITS}d}" for number in range(-(-indices.count // size)))
    return [
        Part(number, stem + SUFFIXES[format], stem, batch)
        for number, (stem, batch) in enumerate(zip(stems, indices.batches(size), strict=True))
    ]


def share(parts: list[Part], shard: int, shards: int) -> list[Part]:
    """The parts that shard 0 ... shards - 1 makes: neighbours, and as many as the others or one more."""
    if not 0 <= shard < shards:
        raise UsageError(f"shard is {shard}/{shards}; n shards are numbered 0/n to n-1/n")
    return parts[len(parts) * shard // shards : len(parts) * (shard + 1) // shards]


def _folders(indices: Indices) -> list[Part]:
    folders: dict[int, list[range]] = {}
    for each in indices.ranges:
        for folder in range(each.start // IMAGES_PER_FOLDER, (each.stop - 1) // IMAGES_PER_FOLDER + 1):
            first = folder * IMAGES_PER_FOLDER
            piece = range(max(each.start, first), min(each.stop, first + IMAGES_PER_FOLDER))
            folders.setdefault(folder, []).append(piece)
    names = {folder: f"{folder:0{FOLDER_DIGITS}d}" for folder in folders}
    return [
        Part(number, names[folder], names[folder], Indices(tuple(pieces)))
        for number, (folder, pieces) in enumerate(folders.items())
    ]


def _files(indices: Indices, shards: int) -> list[Part]:
    """Files right in --out, cut for as many shards as have an image to make."""
    ends = [indices.count * number // shards for number in range(shards + 1)]
    pieces = [indices.slice(first, stop) for first, stop in pairwise(ends) if first < stop]
    stems = [f"{number:0{PART_DIGITS}d}" for number in range(len(pieces))] if len(pieces) > 1 else [""]
    return [Part(number, "", stem, piece) for number, (stem, piece) in enumerate(zip(stems, pieces, strict=True))]
