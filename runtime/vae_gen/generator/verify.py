"""Is everything there that a manifest says, pixel by pixel?"""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from vae_gen.containers import read_container
from vae_gen.containers.members import Chunk, cannot_read, check_png, decode_png
from vae_gen.defaults import INDEX_DIGITS
from vae_gen.errors import DataError
from vae_gen.generator.clearing import check_folders, manifests_in, remove_parts
from vae_gen.generator.generate import Progress
from vae_gen.generator.indices import Indices
from vae_gen.generator.parts import (
    FOLDER_DIGITS,
    IMAGES_PER_FOLDER,
    PART_DIGITS,
    STATE,
    Part,
    folder_name,
    manifest_beside,
    picture_name,
)
from vae_gen.generator.run_manifest import OWN_TO_A_SHARD, RunManifest, read_manifest
from vae_gen.generator.runs import Record
from vae_gen.generator.workers import stop_if_told
from vae_gen.images import ImageShape
from vae_gen.shell import joined
from vae_gen.stores import Store, open_store

SHOWN = 3  # names in one message
LISTED = 10_000  # missing shards, at most
PIECE = 2**20  # bytes
PICTURE = re.compile(rf"\d{{{INDEX_DIGITS},19}}\.png")
FOLDER = re.compile(rf"\d{{{FOLDER_DIGITS},15}}")


@dataclass(frozen=True)
class Problem:
    """Something that is not as the manifests say."""

    part: str  # a file or a folder in --out, "." for that itself; "shards" if it is about all of them
    problem: str
    is_gone: bool = False  # what it is about: nothing has to be removed before that can be made again


@dataclass(frozen=True)
class Report:
    """What a check of a run's results has found."""

    images: int  # that the manifests list
    good: int  # of them, in parts that are as the manifests say
    parts: int
    problems: list[Problem]
    damaged: list[tuple[RunManifest, Part]]
    has_damage: bool  # whether something is there, of this run, that is not as it was written
    missing_shards: list[int]  # the first of them, where they are very many
    without_sheet: RunManifest | None  # the shard whose contact sheet is gone or damaged
    damaged_sheet: str  # its name, if it is there

    def commands(self, out: str, file: str, manifests: Sequence[RunManifest]) -> list[str]:
        """What makes again what is damaged, when it is removed, and what is gone."""
        # A single file, and what decode makes, is made as a whole.
        whole = (file and self.has_damage) or manifests[0].values.get("seed") is None
        way = "--overwrite" if whole else "--resume"
        shards = {manifest.shard: manifest.command for manifest, _ in self.damaged}
        if self.without_sheet is not None:
            shards[self.without_sheet.shard] = self.without_sheet.command
        first = manifests[0]
        for shard in self.missing_shards:
            shards[shard] = first.command.replace(
                f"--shard {first.shard}/{first.shards}", f"--shard {shard}/{first.shards}"
            )
        return [joined([*shlex.split(command), "--out", out, way]) for command in shards.values()]


def read_manifests(store: Store, file: str = "") -> list[RunManifest]:
    """The manifests of a run in a folder, or of the run that wrote the one `file` in it.

    Raises DataError if there is none or one is damaged.
    """
    names = list(filter(store.holds, [manifest_beside(file)])) if file else manifests_in(store.names())
    if not names and not file and store.names(STATE):
        ways = "sample --resume makes the rest, decode --overwrite all"
        raise DataError(f"{store.path('')} holds an unfinished run; {ways}")
    if not names:
        raise DataError(
            f"there is no {store.path(manifest_beside(file))}; vae-gen sample writes one when all images are made"
        )
    return [read_manifest(store, name, file) for name in names]


def verify(
    out: str,
    manifests: Sequence[RunManifest],
    executor: Executor | None = None,
    progress: Progress = lambda images: None,
) -> Report:
    """Compare what is in the folder `out` with what these manifests say: files, counts, and hashes of the pixels.

    Parts are checked by `executor` if one is given. Raises DataError if it fails.
    """
    store = open_store(out)
    missing, problems = _shard_problems(manifests)
    listed = [(manifest, part, record) for manifest in manifests for part, record in manifest.records]
    tasks = [(out, manifest.format, manifest.image_shape, part, record) for manifest, part, record in listed]
    damaged, good, has_damage = [], 0, False
    try:
        for (manifest, part, _), found in zip(
            listed, (executor.map if executor else map)(_check_part, tasks), strict=True
        ):
            problems += found
            if found:
                damaged.append((manifest, part))
                has_damage |= not all(problem.is_gone for problem in found)
            else:
                good += part.indices.count
            progress(part.indices.count)
    except BrokenExecutor as error:
        raise DataError(f"a process ended before it had checked its part: {error}; try --workers 1") from error
    there = store.names()
    makers = [manifest for manifest in manifests if manifest.grid_name and manifest.shard == 0]
    sheet_problems = [problem for maker in makers[:1] for problem in _check_sheet(store, maker.grid_name, there)]
    problems += sheet_problems
    if not manifests[0].file:
        problems += _strangers(store, manifests[0], there)
    images = sum(part.indices.count for _, part, _ in listed)
    without_sheet = makers[0] if sheet_problems else None
    damaged_sheet = without_sheet.grid_name if without_sheet and without_sheet.grid_name in there else ""
    has_damage |= bool(damaged_sheet)
    return Report(images, good, len(listed), problems, damaged, has_damage, missing, without_sheet, damaged_sheet)


def discard(store: Store, report: Report) -> None:
    """Remove what is damaged, parts and the contact sheet, so that the run can be resumed.

    Raises OutputError if there is something else in their folders; nothing has been removed then.
    """
    check_folders(store, [part for _, part in report.damaged])
    remove_parts(store, [part for _, part in report.damaged])
    if report.damaged_sheet:
        store.remove(report.damaged_sheet)


def _shard_problems(manifests: Sequence[RunManifest]) -> tuple[list[int], list[Problem]]:
    """The shards that are missing, or the first of very many, and what is wrong with the manifests together."""
    first, problems = manifests[0], []
    for manifest in manifests[1:]:
        keys = [key for key in first.values.keys() | manifest.values.keys() if key not in OWN_TO_A_SHARD]
        different = sorted(key for key in keys if first.values.get(key) != manifest.values.get(key))
        if different:
            what = f"not of the same run as {first.name}: {', '.join(different)} differ{'s' * (len(different) == 1)}"
            problems.append(Problem(manifest.name, what))
    there = {manifest.shard for manifest in manifests if manifest.shards == first.shards}
    missing = list(islice((shard for shard in range(first.shards) if shard not in there), LISTED))
    if missing:
        number = first.shards - len(there)
        names = _some([f"{shard}/{first.shards}" for shard in missing[: SHOWN + 1]])
        problems.append(Problem("shards", f"{number:,} of {first.shards:,} are missing or unfinished: {names}"))
    return missing, problems


def _check_sheet(store: Store, name: str, there: list[str]) -> Iterator[Problem]:
    if name not in there:
        yield Problem(name, "the contact sheet is missing")
        return
    try:
        with store.open(name) as stream:
            check_png(stream.read(), name, store.path(""))
    except DataError as error:
        yield Problem(name, str(error))


def _check_part(task: tuple[str, str, ImageShape, Part, Record]) -> list[Problem]:
    """What is wrong with one part. A plain function: any executor can run it."""
    out, kind, image_shape, part, record = task
    store = open_store(out)
    gone: list[str] = []
    problems: list[str] = []
    try:
        if not part.is_file:
            gone = _missing(store, part)
            problems += _check_pictures(store, part, image_shape, record, set(gone))
        else:
            with store.open(part.name) as stream:
                chunks = read_container(kind, stream, store.path(part.name))
                problems += _check_pixels(chunks, part.indices, image_shape, record)
    except DataError as error:
        problems.append(str(error))
    try:
        if "latents" in record and not gone:  # else they will be made again with the pictures
            problems += _check_latents(store, part, record)
    except DataError as error:
        problems.append(str(error))
    found = [Problem(record["name"], problem) for problem in problems]
    if gone:
        names = f"{len(gone):,} of {part.indices.count:,} images are missing: {_some(gone)}"
        found.insert(0, Problem(record["name"], names, is_gone=True))
    return found


def _check_pixels(chunks: Iterable[Chunk], indices: Indices, image_shape: ImageShape, record: Record) -> Iterator[str]:
    digest = hashlib.sha256()
    expected = iter(indices)
    count = 0
    for found, images in chunks:
        stop_if_told()
        if images.shape[1:] != image_shape:
            yield f"its images have the shape {images.shape[1:]}, not {image_shape}"
            return
        if found is not None and found != list(islice(expected, len(found))):
            yield f"its images are not those with the indices {_short(str(indices))}, in this order"
            return
        count += len(images)
        digest.update(np.ascontiguousarray(images).data)
    if count != indices.count:
        yield f"it holds {count:,} images, not {indices.count:,}"
    elif digest.hexdigest() != record["pixels_sha256"]:
        yield "its pixels are not those of the manifest"


def _missing(store: Store, part: Part) -> list[str]:
    there = set(store.names(part.name))
    return [name for name in map(picture_name, part.indices) if name not in there]


def _check_pictures(store: Store, part: Part, image_shape: ImageShape, record: Record, gone: set[str]) -> list[str]:
    """What is wrong with the pictures of a part that are not gone."""
    broken: list[str] = []

    def pictures() -> Iterator[Chunk]:
        for name in map(picture_name, part.indices):
            if name not in gone:
                try:
                    with store.open(f"{part.name}/{name}" if part.name else name) as stream:
                        yield None, decode_png(stream.read(), name, store.path(part.name))[None]
                except DataError as error:
                    broken.append(str(error))

    found = [*_check_pixels(pictures(), part.indices, image_shape, record)]
    if gone or broken:  # then the pixels of all of them have no hash
        more = [f"{len(broken) - SHOWN:,} more pictures are damaged"] if len(broken) > SHOWN else []
        return broken[:SHOWN] + more
    return found


def _check_latents(store: Store, part: Part, record: Record) -> Iterator[str]:
    digest = hashlib.sha256()
    path = store.path(part.latents_name)
    with store.open(part.latents_name) as stream, cannot_read(path):
        if np.lib.format.read_magic(stream) != (1, 0):
            raise DataError(f"{path} is not of version 1.0 of .npy")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
        size = 0
        while piece := stream.read(PIECE):
            digest.update(piece)
            size += len(piece)
    if dtype != np.dtype("<f4") or by_columns or len(shape) != 2 or shape[0] != part.indices.count:
        yield f"{path} holds {dtype} of shape {shape}, not latents of {part.indices.count:,} images"
    elif size != 4 * math.prod(shape):
        yield f"{path} holds {size:,} bytes of latents, not {4 * math.prod(shape):,}"
    elif digest.hexdigest() != record["latents_sha256"]:
        yield f"{path} holds latents that are not those of the manifest"


def _strangers(store: Store, manifest: RunManifest, there: list[str]) -> Iterator[Problem]:
    """What looks like a part of the run, or a picture in one, and is not in it, whichever shards are there."""
    indices = manifest.indices

    def is_picture(name: str) -> bool:
        index = int(name[: -len(".png")])
        return picture_name(index) == name and indices.any_between(index, index + 1)

    def is_folder(name: str) -> bool:
        first = int(name) * IMAGES_PER_FOLDER
        return name == folder_name(int(name)) and indices.any_between(first, first + IMAGES_PER_FOLDER)

    def is_container(name: str) -> bool:
        number = int(name.partition(".")[0])
        return number < manifest.all_parts.total and name == manifest.all_parts[number].name

    if manifest.format != "png":
        like = re.compile(rf"\d{{{PART_DIGITS},18}}\.{manifest.format}")
        yield from _strange(".", there, like, is_container)
    elif indices.count <= IMAGES_PER_FOLDER:
        yield from _strange(".", there, PICTURE, is_picture)
    else:
        yield from _strange(".", there, FOLDER, is_folder)
        for folder in filter(FOLDER.fullmatch, there):
            if is_folder(folder):
                yield from _strange(folder, store.names(folder), PICTURE, is_picture)


def _strange(folder: str, there: list[str], like: re.Pattern[str], belongs: Callable[[str], bool]) -> Iterator[Problem]:
    strange = [name for name in there if like.fullmatch(name) and not belongs(name)]
    if strange:
        yield Problem(folder, f"{len(strange):,} in it that the manifest does not list: {_some(strange)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
