"""Run: what is to be made, to the byte. Not where, and not by how many."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vae_gen import deflate
from vae_gen.errors import UsageError
from vae_gen.graph import ENGINE_VERSION
from vae_gen.indices import Indices
from vae_gen.latents import MAX_SEED
from vae_gen.parts import Parts, cut, share
from vae_gen.version import __version__

SCHEMA = 1
GRID = "grid.png"
MAX_PARTS = 100_000  # of which a process keeps records
MAX_GRID = 100_000_000  # pixels of a contact sheet
Provenance = Mapping[str, str | int | float]


@dataclass(frozen=True)
class Run:
    """Some images of one seed and one model, in one format. Raises UsageError if a value is out of range."""

    model: str  # how to find it: a shipped model's name, or a path
    model_name: str
    decoder_sha256: str
    image_shape: tuple[int, int, int]  # channels, height, width
    seed: int
    indices: Indices
    temperature: float = 1.0
    format: str = "png"
    part_size: int | None = None  # images in a container file; None: all that a shard makes
    shard: int = 0
    shards: int = 1
    file: str = ""  # the name of the only file, where it has been given one
    metadata: bool = True  # write provenance into images
    latents: bool = False  # write latents beside images
    grid: tuple[int, int] | None = None  # rows and columns of the contact sheet

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"seed is {self.seed}; it must be between 0 and 2**64 - 1")
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

    @cached_property
    def parts(self) -> Parts:
        """Those that this shard makes."""
        return share(self.all_parts, self.shard, self.shards)

    @cached_property
    def all_parts(self) -> Parts:
        return cut(self.indices, self.format, self.part_size, self.shards, self.file)

    @cached_property
    def images(self) -> int:
        """How many this shard makes."""
        if not self.parts:
            return 0
        first, last = self.parts[0].indices.ranges[0], self.parts[-1].indices.ranges[-1]
        return self.indices.between(first.start, last.stop).count

    @property
    def files(self) -> list[str]:
        """What a run of one named file writes; nothing for others."""
        if not self.file:
            return []
        beside = [self.parts[0].latents_name] if self.latents else []
        return [self.file, *beside, *([self.grid_name] if self.grid else [])]

    @property
    def grid_name(self) -> str:
        return f"{self.parts[0].stem}.grid.png" if self.file else GRID

    @property
    def provenance(self) -> Provenance | None:
        """What every image says of itself, beside its index."""
        if not self.metadata:
            return None
        drawn: dict[str, str | int | float] = {"Seed": self.seed}
        if self.temperature != 1:
            drawn["Temperature"] = self.temperature
        return {**provenance(self.model_name, self.decoder_sha256), **drawn}

    @property
    def about(self) -> dict[str, Any]:
        """What makes one run differ from another, as JSON; all shards of a run have the same."""
        return {
            "schema": SCHEMA,
            "versions": {
                "vae-gen": __version__,
                "onnxruntime": ENGINE_VERSION,
                "numpy": np.__version__,
                "deflate": deflate.NAME,
            },
            "model": self.model_name,
            "decoder_sha256": self.decoder_sha256,
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

    @property
    def command(self) -> str:
        """What to type to get the same images; --out is left to whoever does."""
        first = self.indices.ranges[0]
        words = ["vae-gen", "sample", "--model", self.model, "--seed", self.seed]
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


def provenance(model_name: str, decoder_sha256: str) -> Provenance:
    """What an image says of the program and the model that made it, in what PNG's text chunks can hold."""
    latin = model_name.encode("latin-1", "replace").decode("latin-1")
    name = "".join(letter if letter.isprintable() else "?" for letter in latin)
    return {"Software": f"vae-gen {__version__}", "Model": f"{name} {decoder_sha256[:16]}"}
