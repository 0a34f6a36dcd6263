"""Run: what is to be made, to the byte. Not where, and not by how many."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from vae_gen import deflate
from vae_gen.containers import check_fits
from vae_gen.defaults import FORMATS
from vae_gen.errors import UsageError, unknown_format
from vae_gen.generator.indices import Indices
from vae_gen.generator.parts import Layout
from vae_gen.graph import ENGINE_VERSION
from vae_gen.latents import Latents, checked_seed, checked_temperature, draw
from vae_gen.reading import AS_STATED, Reading
from vae_gen.stores import Store
from vae_gen.version import __version__

SCHEMA = 1
MAX_PARTS = 100_000  # of which a process keeps records
MAX_GRID = 100_000_000  # pixels of a contact sheet
PARTS = "parts"  # what a manifest has when all of them are complete
Record = dict[str, Any]  # what a manifest says of one part
Provenance = Mapping[str, str | int | float]


def versions(format: str) -> dict[str, str]:
    """Of what the bytes of a run in this format depend on, in this process."""
    return {
        "vae-gen": __version__,
        "onnxruntime": ENGINE_VERSION,
        "numpy": np.__version__,
        "deflate": deflate.PYTHONS if format == "npz" else deflate.NAME,  # an npz file is a stream of Python's
    }


@dataclass(frozen=True)
class Given:
    """Latents that somebody has: image i is that of row i."""

    source: str  # as --z takes it
    latents: Latents = field(compare=False, repr=False)  # [n, latent_dim]


@dataclass(frozen=True)
class Run(Layout):
    """Some images of one model, of one seed or of given latents, in one format.

    Raises UsageError if a value is out of range.
    """

    model: str  # how to find it: a shipped model's name, or a path
    model_name: str
    decoder_sha256: str
    image_shape: tuple[int, int, int]  # channels, height, width
    latent_dim: int
    read_as: Reading  # how its output is read, all of it said
    seed: int | None  # None: of given latents
    reading: Reading = AS_STATED  # what of that was asked for
    temperature: float = 1.0
    metadata: bool = True  # write provenance into images
    given: Given | None = None  # instead of a seed
    versions: Mapping[str, str] = field(default_factory=dict)  # those here, unless another process began it

    def __post_init__(self) -> None:
        object.__setattr__(self, "versions", self.versions or versions(self.format))
        if (self.seed is None) != (self.given is not None):
            raise UsageError("a run is of a seed, or of given latents; give one of them")
        if self.seed is not None:
            object.__setattr__(self, "seed", checked_seed(self.seed))
        object.__setattr__(self, "temperature", checked_temperature(self.temperature))
        if self.format not in FORMATS:
            raise unknown_format(self.format)
        super().__post_init__()
        if self.part_size is not None and self.part_size < 1:
            raise UsageError(f"shard-size is {self.part_size}; it must be at least 1")
        if self.grid and min(self.grid) < 1:
            raise UsageError(f"grid is {self.grid[0]}x{self.grid[1]}; it must have at least one row and one column")
        height, width = self.image_shape[1:]
        if self.grid and min(self.grid[0] * self.grid[1], self.indices.count) * height * width > MAX_GRID:
            raise UsageError(
                f"grid is {self.grid[0]}x{self.grid[1]} images of {height}x{width}; "
                f"a contact sheet has at most {MAX_GRID:,} pixels"
            )
        if self.parts.total > MAX_PARTS:
            way_out = "divide the run with --shard" + (", or choose a larger --shard-size" if self.part_size else "")
            raise UsageError(
                f"{self.indices.count:,} images would fill {self.parts.total:,} "
                f"{'files' if self.part_size else 'folders'}, and at most {MAX_PARTS:,} are made at once; {way_out}"
            )
        if self.parts and self.parts[0].is_file:
            check_fits(self.format, self.parts[0].indices.count)  # others have no more

    @cached_property
    def images(self) -> int:
        """How many this shard makes."""
        if not self.parts:
            return 0
        first, last = self.parts[0].indices.ranges[0], self.parts[-1].indices.ranges[-1]
        return self.indices.between(first.start, last.stop).count

    def appears_at_once(self, is_new: bool) -> bool:
        """Whether all that it makes, and its claim, get their names at one moment, in a store that is new or is not.

        So it is with one new folder of pictures and nothing beside it.
        """
        alone = self.all_parts.total == 1 and self.shards == 1 and not (self.grid or self.latents)
        return alone and is_new and not self.all_parts[0].name

    @property
    def files(self) -> list[str]:
        """What a run of one named file writes; nothing for others."""
        if not self.file:
            return []
        return [*self.parts[0].files, *([self.grid_name] if self.grid else [])]

    @property
    def provenance(self) -> Provenance | None:
        """What every image says of itself, beside its index."""
        if not self.metadata:
            return None
        latin = self.model_name.encode("latin-1", "replace").decode("latin-1")  # as PNG's text chunks have it
        name = "".join(letter if letter.isprintable() else "?" for letter in latin)
        about: dict[str, str | int | float] = {
            "Software": f"vae-gen {__version__}",
            "Model": f"{name} {self.decoder_sha256[:16]}",
        }
        if self.seed is not None:
            about["Seed"] = self.seed
        if self.temperature != 1:
            about["Temperature"] = self.temperature
        return about

    @property
    def about(self) -> dict[str, Any]:
        """What makes one run differ from another, as JSON; all shards of a run have the same."""
        return {
            "schema": SCHEMA,
            "versions": self.versions,
            "model": self.model_name,
            "decoder_sha256": self.decoder_sha256,
            "decoder_output": self.read_as.as_json,
            "seed": self.seed,
            "indices": str(self.indices),
            "images": self.indices.count,
            "image_shape": list(self.image_shape),
            "temperature": self.temperature,
            "format": self.format,
            "shard_size": self.part_size,
            "shards": self.shards,
            "metadata": self.metadata,
            "latents": self.latents,
            "grid": f"{self.grid[0]}x{self.grid[1]}" if self.grid else None,
        }

    def z(self, indices: Indices) -> Latents:
        """The latents of these of its images: given, or drawn and times the temperature; float32 [n, latent_dim]."""
        if self.given is not None:
            return np.concatenate([self.given.latents[each.start : each.stop] for each in indices.ranges])
        assert self.seed is not None
        pieces = [draw(self.seed, each.start, len(each), self.latent_dim) for each in indices.ranges]
        return np.concatenate(pieces) * np.float32(self.temperature)

    def manifest(self, records: list[Record]) -> dict[str, Any]:
        """What is said of the run, or of its shard, when all its parts are there."""
        shard = f"{self.shard}/{self.shards}" if self.shards > 1 else None
        return {"command": self.command, **self.about, "shard": shard, PARTS: records}

    @property
    def command(self) -> str:
        """What to type to get the same images; --out is left to whoever does."""
        first = self.indices.ranges[0]
        words: list[object] = ["--model", self.model, *self.reading.as_options]
        if self.given is not None:
            return shlex.join(
                ["vae-gen", "decode", *map(str, words), "--z", self.given.source, "--format", self.format]
            )
        words = ["vae-gen", "sample", *words, "--seed", self.seed]
        if len(self.indices.ranges) > 1:
            words += ["--indices", self.indices]
        else:
            words += ["--n", self.indices.count]
            words += ["--start", first.start] if first.start else []
        words += ["--temperature", self.temperature] if self.temperature != 1 else []
        words += ["--format", self.format]
        words += ["--shard-size", self.part_size] if self.part_size else []
        words += ["--shard", f"{self.shard}/{self.shards}"] if self.shards > 1 else []
        words += ["--no-metadata"] if not self.metadata else []
        words += ["--latents"] if self.latents else []
        words += ["--grid", self.about["grid"]] if self.grid else []
        return shlex.join(map(str, words))


def to_json(values: Mapping[str, Any]) -> bytes:
    """As manifests are written."""
    return (json.dumps(values, indent=2) + "\n").encode()


def write_json(store: Store, name: str, values: Mapping[str, Any]) -> None:
    """Make the file `name` of it. Raises OutputError."""
    with store.create(name) as file:
        file.write(to_json(values))
