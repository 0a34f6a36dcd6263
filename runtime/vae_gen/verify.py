"""Is everything there that a manifest says, pixel by pixel?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from vae_gen.containers import read_container
from vae_gen.containers.members import Chunk, decode_png
from vae_gen.errors import DataError
from vae_gen.generate import Progress, picture_name
from vae_gen.indices import Indices
from vae_gen.ledger import PICTURE, SHARD_MANIFEST, read_json
from vae_gen.parts import STATE
from vae_gen.runs import MANIFEST, Record
from vae_gen.stores import Store, open_store

OWN_TO_A_SHARD = ("command", "shard", "parts")
SHOWN = 3  # names in one message
PIECE = 2**20  # bytes


@dataclass(frozen=True)
class Report:
    """What a check of a run's results has found."""

    images: int  # of the parts that are as the manifests say
    parts: int
    problems: list[str]  # each begins with what it is about


def verify(
    out: str, file: str = "", executor: Executor | None = None, progress: Progress = lambda images: None
) -> Report:
    """Compare a folder, or the one `file` in it, with what its manifests say: files, counts, and hashes of the pixels.

    Parts are checked by `executor` if one is given. Raises DataError if there is no manifest or one is damaged.
    """
    store = open_store(out)
    manifests = {name: read_json(store, name) for name in _manifest_names(store, file)}
    try:
        problems = list(_shard_problems(manifests))
        records = [record for manifest in manifests.values() for record in manifest["parts"]]
        tasks = [
            (out, manifest["format"], tuple(manifest["image_shape"]), record)
            for manifest in manifests.values()
            for record in manifest["parts"]
        ]
        good = 0
        for record, found in zip(records, (executor.map if executor else map)(_check_part, tasks), strict=True):
            problems += found
            good += 0 if found else record["images"]
            progress(record["images"])
        if not file:
            problems += _strangers(store, records)
    except BrokenExecutor as error:
        raise DataError(f"a worker process ended before its part was checked: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{store.path(next(iter(manifests)))} is damaged: {error!r}") from error
    return Report(good, len(records), problems)


def images_of(out: str, file: str) -> int:
    """How many images the manifests list."""
    store = open_store(out)
    return sum(
        sum(record["images"] for record in read_json(store, name)["parts"]) for name in _manifest_names(store, file)
    )


def _manifest_names(store: Store, file: str) -> list[str]:
    there = store.names()
    if file:
        names = [name for name in there if name == f"{file}.{MANIFEST}"]
    else:
        names = [name for name in there if name == MANIFEST or SHARD_MANIFEST.fullmatch(name)]
    if not names and not file and store.names(STATE):
        raise DataError(f"{store.path('')} holds an unfinished run; vae-gen sample --resume makes the rest")
    if not names:
        what = f"{file}.{MANIFEST}" if file else MANIFEST
        raise DataError(f"there is no {store.path(what)}; vae-gen sample writes one when all images are made")
    return names


def _shard_problems(manifests: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Do the manifests belong to one run, and are all its shards there?"""
    names = list(manifests)
    first = manifests[names[0]]
    for name in names[1:]:
        different = [
            key for key in first if key not in ("command", "shard", "parts") and first[key] != manifests[name][key]
        ]
        if different:
            yield f"{name}: not of the same run as {names[0]}: {', '.join(different)} differ"
    shards = first["shards"]
    there = {manifest["shard"] for manifest in manifests.values()}
    missing = [f"{shard}/{shards}" for shard in range(shards) if f"{shard}/{shards}" not in there] if shards > 1 else []
    if missing:
        yield f"shards: {len(missing)} of {shards} are missing or unfinished: {_some(missing)}"
    made = sum(record["images"] for manifest in manifests.values() for record in manifest["parts"])
    if not missing and made != first["images"]:
        yield f"{names[0]}: its parts have {made:,} images, and the run {first['images']:,}"


def _check_part(task: tuple[str, str, tuple[int, int, int], Record]) -> list[str]:
    """What is wrong with one part. A plain function: any executor can run it."""
    out, kind, image_shape, record = task
    store = open_store(out)
    name = record["name"]
    indices = Indices.parse(record["indices"])
    problems: list[str] = []
    try:
        if kind == "png":
            folder = "" if name == "." else name
            missing = _missing(store, folder, indices)
            if missing:
                return [f"{name}: {len(missing):,} of {indices.count:,} images are missing: {_some(missing)}"]
            problems += _check_pixels(_pictures(store, folder, indices), indices, image_shape, record)
        else:
            with store.open(name) as stream:
                chunks = read_container(kind, stream, store.path(name))
                problems += _check_pixels(chunks, indices, image_shape, record)
        if "latents" in record and _hash_of_latents(store, record["latents"]) != record["latents_sha256"]:
            problems.append("its latents are not those of the manifest")
    except DataError as error:
        problems.append(str(error))
    return [f"{name}: {problem}" for problem in problems]


def _check_pixels(
    chunks: Iterable[Chunk], indices: Indices, image_shape: tuple[int, int, int], record: Record
) -> Iterator[str]:
    digest = hashlib.sha256()
    expected = iter(indices)
    count = 0
    for found, images in chunks:
        if images.shape[1:] != image_shape:
            yield f"its images have the shape {images.shape[1:]}, not {image_shape}"
            return
        if found is not None and found != list(islice(expected, len(found))):
            yield f"its images are not those with the indices {_short(record['indices'])}, in this order"
            return
        count += len(images)
        digest.update(np.ascontiguousarray(images).data)
    if count != indices.count:
        yield f"it holds {count:,} images, not {indices.count:,}"
    elif digest.hexdigest() != record["pixels_sha256"]:
        yield "its pixels are not those of the manifest"


def _missing(store: Store, folder: str, indices: Indices) -> list[str]:
    there = set(store.names(folder))
    return [name for name in map(picture_name, indices) if name not in there]


def _pictures(store: Store, folder: str, indices: Indices) -> Iterator[Chunk]:
    for index in indices:
        name = f"{folder}/{picture_name(index)}" if folder else picture_name(index)
        with store.open(name) as stream:
            yield None, decode_png(stream.read(), name, store.path(""))[None]


def _hash_of_latents(store: Store, name: str) -> str:
    digest = hashlib.sha256()
    with store.open(name) as stream:
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
        while piece := stream.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _strangers(store: Store, records: list[Record]) -> Iterator[str]:
    """Pictures in the run's folders that no part has."""
    folders: dict[str, list[Indices]] = {}
    for record in records:
        folders.setdefault("" if record["name"] == "." else record["name"], []).append(Indices.parse(record["indices"]))
    for folder, parts in folders.items():
        if folder and not store.is_folder(folder):
            continue
        known = {picture_name(index) for part in parts for index in part}
        strange = [name for name in store.names(folder) if PICTURE.fullmatch(name) and name not in known]
        if strange:
            yield f"{folder or '.'}: {len(strange):,} images are not in the manifest: {_some(strange)}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
