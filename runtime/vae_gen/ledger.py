"""What of a run is complete: a record of each part while it goes on, one manifest in the end.

In --out, while a run is unfinished, the folder .vae-gen holds what each shard is to make, and a record of every part
that is complete. At the end of a shard its records become its manifest, manifest.json or manifest.0003-of-0008.json.
A run that writes one file of a given name has nothing to resume; its manifest stands beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from vae_gen.defaults import INDEX_DIGITS, SUFFIXES
from vae_gen.errors import DataError, OutputError
from vae_gen.parts import STATE
from vae_gen.runs import MANIFEST, PARTS, Record, Run, to_json
from vae_gen.stores import Store

SHARD_MANIFEST = re.compile(r"manifest\.\d+-of-\d+\.json")
PICTURE = re.compile(rf"\d{{{INDEX_DIGITS},}}\.png")
_containers = "|".join(re.escape(suffix) for suffix in SUFFIXES.values())
# What this program writes into a folder, and may remove from it when told to overwrite.
OURS = re.compile(
    rf"{PICTURE.pattern}|\d{{5,}}|\d{{6,}}({_containers})|(\d+\.)?latents\.npy|grid\.png"
    rf"|manifest\.json|{SHARD_MANIFEST.pattern}|{re.escape(STATE)}"
)


def read_json(store: Store, name: str) -> dict[str, Any]:
    """The JSON object in a file. Raises DataError if it holds none."""
    with store.open(name) as file:
        content = file.read()
    try:
        values = json.loads(content)
    except ValueError as error:
        raise DataError(f"{store.path(name)} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"{store.path(name)} is damaged: it holds no JSON object")
    return values


def in_the_way(store: Store, files: Collection[str] = ()) -> list[str]:
    """What `store` holds already where these files, or if none are named any number of parts, are to be."""
    there = store.names()
    return [name for name in there if name in files] if files else there


def clear(store: Store) -> None:
    """Remove what an earlier run has left in a folder."""
    for name in in_the_way(store):
        if OURS.fullmatch(name):
            store.remove(name)


class Ledger:
    """The records of one run, or of one of its shards, in one store."""

    def __init__(self, store: Store, run: Run) -> None:
        self._store = store
        self._run = run

    def open(self, resume: bool, overwrite: bool) -> dict[str, Any] | None:
        """Make --out this run's. Returns its manifest if it is complete already.

        Raises OutputError if --out holds something else, or this run, and neither `resume` nor `overwrite` is given.
        """
        if overwrite:
            if not self._run.files:  # a file is replaced when its successor is complete
                clear(self._store)
        elif there := in_the_way(self._store, self._run.files):
            complete = self._check(there, resume)
            if complete is not None:
                return complete
        self._store.sweep(self._written())
        if self._run.appears_at_once(self._store.is_new()):
            return None
        with self._store.create(self._run.claim_name) as file:
            file.write(to_json(self._run.about))
        return None

    def _written(self) -> Iterator[str]:
        """All names that this run writes to."""
        run = self._run
        yield from (run.manifest_name, run.claim_name, *run.files)
        if run.shard == 0:
            yield run.grid_name
        for part in run.parts:
            yield from (part.name or part.stem, part.latents_name, part.record_name)

    def _check(self, there: list[str], resume: bool) -> dict[str, Any] | None:
        """The manifest of this run if it is complete; OutputError if it may not go on in this store."""
        place, way_out = self._store.path(""), "choose another --out, or give --overwrite"
        name = self._run.manifest_name
        if self._run.file:
            place = self._store.path(self._run.file)
            known = [name] if name in self._store.names() else []
        else:
            known = [name for name in there if name == MANIFEST or SHARD_MANIFEST.fullmatch(name)]
            known += [f"{STATE}/{each}" for each in self._store.names(STATE) if each.startswith("run.")]
        if not known:
            raise OutputError(f"{place} already holds something; {way_out}")
        for each in known:
            differences = _differences(read_json(self._store, each), self._run.about)
            if differences:
                raise OutputError(f"{place} already holds another run: {differences}; {way_out}")
        if name in known:
            manifest = read_json(self._store, name)
            if PARTS in manifest and (not self._run.file or self._run.file in there):
                if resume:
                    self._forget()  # for one that was killed at the very end
                    return manifest
                raise OutputError(
                    f"{place} already holds this run, complete; --resume leaves it so, --overwrite repeats it"
                )
        if (name in known or self._run.claim_name in known) and not resume:
            raise OutputError(f"{place} already holds this run, unfinished; --resume goes on with it")
        return None

    def done(self) -> dict[int, Record]:
        """The records of the parts that are complete, by their numbers."""
        if self._run.file:
            return {}
        there = set(self._store.names(STATE))
        parts = [part for part in self._run.parts if part.record_name.rpartition("/")[2] in there]
        return {part.number: read_json(self._store, part.record_name) for part in parts}

    def close(self, records: dict[int, Record]) -> dict[str, Any]:
        """Write the manifest of a run whose parts are all complete, and remove the records; returns it."""
        run = self._run
        self._store.sweep(self._written())  # what was left by a cluster's worker that ended, and was replaced
        manifest = run.manifest([records[part.number] for part in run.parts])
        with self._store.create(run.manifest_name) as file:
            file.write(to_json(manifest))
        self._forget()
        return manifest

    def _forget(self) -> None:
        """Remove what only an unfinished run needs."""
        there = {f"{STATE}/{name}" for name in ([] if self._run.file else self._store.names(STATE))}
        if not there:
            return
        for name in {self._run.claim_name, *(part.record_name for part in self._run.parts)} & there:
            self._store.remove(name)
        if not self._store.names(STATE):  # no other shard is at work
            self._store.remove(STATE)


def seed_of(store: Store, file: str) -> int | None:
    """The seed of the run whose file of this name, or whose parts, a store holds; None if it holds no run."""
    names = [name for name in store.names() if name == (f"{file}.{MANIFEST}" if file else MANIFEST)]
    names += [] if file else [f"{STATE}/{name}" for name in store.names(STATE) if name.startswith("run.")]
    return int(read_json(store, names[0])["seed"]) if names else None


def _differences(there: dict[str, Any], here: dict[str, Any]) -> str:
    """What differs, for people; what only the manifest of a complete run has is not compared."""
    found = []
    for key, value in here.items():
        if isinstance(value, dict) and isinstance(there.get(key), dict):
            found.append(_differences(there[key], value))
        elif there.get(key) != value:
            found.append(f"{key} is {there.get(key)} there and {value} here")
    return ", ".join(filter(None, found))
