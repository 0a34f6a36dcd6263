"""What of a run is complete: a record of each part while it goes on, one manifest in the end.

In --out, while a run is unfinished, the folder .vae-gen holds what each shard is to make, and a record of every part
that is complete. At the end of a shard its records become its manifest, manifest.json or manifest.0003-of-0008.json.
A run that writes one file of a given name has nothing to resume; its manifest stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from vae_gen.errors import DataError, OutputError, VaeGenError
from vae_gen.generator.clearing import check_folders, claims_in, clear, in_the_way, manifests_in, written
from vae_gen.generator.parts import STATE, claimed_by, grid_beside, latents_beside, manifest_beside
from vae_gen.generator.run_manifest import RunManifest, is_record, read_json, read_manifest, read_outline
from vae_gen.generator.runs import PARTS, Record, Run, write_json
from vae_gen.stores import Store


class Ledger:
    """The records of one run, or of one of its shards, in one store."""

    def __init__(self, store: Store, run: Run) -> None:
        self._store = store
        self._run = run
        self._done: dict[int, Record] = {}  # of the parts that need not be made
        self._before: bytes | None = None  # what is said of the only file that is to be replaced
        self._outdated: list[str] = []  # files beside the only file that go with the one that is replaced

    @property
    def names(self) -> list[str]:
        """What only one process at a time may write to: a file, or the part of --out that is a shard's.

        And what stands beside a file, which those that differ from it in their formats alone have beside them too.
        """
        run = self._run
        return [run.manifest_name, *([latents_beside(run.file, run.format)] if run.file else [])]

    def open(self, resume: bool, overwrite: bool) -> dict[str, Any] | None:
        """Make --out this run's. Returns its manifest if it is complete already and all its files are there.

        Raises OutputError if --out holds something else, or this run, and neither `resume` nor `overwrite` is given.
        """
        if overwrite:
            if self._run.file:  # which is replaced when its successor is complete
                self._outdated = self._companions_there()
            else:
                self._check_no_shard_is_at_work()
                clear(self._store, self._run.parts)
        elif in_the_way(self._store, self._run.files):
            complete = self._check(resume)
            if complete is not None:
                names = set(self._store.names())
                self._done = {part.number: record for part, record in complete.records if names.issuperset(part.files)}
                has_grid = not self._run.makes_grid or self._run.grid_name in names
                if has_grid and len(self._done) == len(complete.parts):
                    # For one that was killed at the very end: on Windows its lock beside a new folder is still there.
                    self._store.sweep(name for name in self._written() if not name)
                    self._forget()
                    return complete.values
            self._done |= self._recorded()
            check_folders(self._store, (part for part in self._run.parts if part.number not in self._done))
        self._store.sweep(self._written())
        if self._run.appears_at_once(self._store.is_new()):
            return None
        if self._run.file and self._store.holds(self._run.claim_name):
            with self._store.open(self._run.claim_name) as file:
                self._before = file.read()
        write_json(self._store, self._run.claim_name, self._run.about)
        return None

    def abandon(self) -> None:
        """Leave beside the only file of a run that has failed what stood there before: it has not been replaced."""
        if not self._run.file:
            return
        with suppress(VaeGenError):  # then it says that the run is unfinished
            if self._before is None:
                self._store.remove(self._run.claim_name)
            else:
                with self._store.create(self._run.claim_name) as file:
                    file.write(self._before)

    def _check_no_shard_is_at_work(self) -> None:
        """Raise OutputError if another process is at work on what this one is to replace: on a shard of a run there."""
        for claim in claims_in(self._store):
            if (theirs := claimed_by(claim)) not in self.names:
                with self._store.lock(theirs):
                    pass

    def _companions_there(self) -> list[str]:
        """The latents and the contact sheet of the run that made the file there, if this one makes none."""
        run = self._run
        if not self._store.holds(run.manifest_name):
            return []
        try:
            there = read_outline(self._store, run.manifest_name, run.file)
        except DataError:  # of something else, whose files are not known
            return []
        return [name for name in (there.parts[0].latents_name, there.grid_name) if name and name not in run.files]

    def _written(self) -> Iterator[str]:
        """All names that this run writes to."""
        run = self._run
        yield from (run.manifest_name, run.claim_name, *run.files)
        # What another run had begun beside it, too.
        if run.shard == 0:
            yield grid_beside(run.file, run.format)
        if run.file:
            yield latents_beside(run.file, run.format)
        yield from written(run.parts)

    def _check(self, resume: bool) -> RunManifest | None:
        """The manifest of this run if it is complete; OutputError if it may not go on in this store."""
        place, way_out = self._store.path(""), "choose another --out"
        way_out += ", or give --overwrite" if self._run.shards == 1 else ""  # of a shard it would remove the others
        name = self._run.manifest_name
        if self._run.file:
            place = self._store.path(self._run.file)
            known = [name] if self._store.holds(name) else []
        else:
            claims = claims_in(self._store)  # first: a shard that ends meanwhile has its manifest before its claim goes
            known = [*manifests_in(self._store.names()), *claims]
        if not known or self._run.given:  # of which nobody knows whether they are the same
            raise OutputError(f"{place} already holds something; {way_out}")
        for each in known:
            differences = _differences(read_json(self._store, each), self._run.about)
            if differences:
                raise OutputError(f"{place} already holds another run: {differences}; {way_out}")
        complete = name in known and PARTS in read_json(self._store, name)
        if complete and (not self._run.file or self._store.holds(self._run.file)):
            if resume:
                return read_manifest(self._store, name, self._run.file)
            raise OutputError(
                f"{place} already holds this run, complete; --resume makes only what is gone, --overwrite repeats it"
            )
        if (name in known or self._run.claim_name in known) and not resume:
            raise OutputError(f"{place} already holds this run, unfinished; --resume goes on with it")
        return None

    def done(self) -> dict[int, Record]:
        """The records of the parts that were complete when it was opened, by their numbers."""
        return dict(self._done)

    def _recorded(self) -> dict[int, Record]:
        """Those of an unfinished run, whose files are there."""
        if self._run.file:
            return {}
        there, states = set(self._store.names()), set(self._store.names(STATE))
        found = {}
        for part in self._run.parts:
            if part.record_name.rpartition("/")[2] in states and there.issuperset(part.files):
                record = read_json(self._store, part.record_name)
                if is_record(record, part):
                    found[part.number] = record
        return found

    def close(self, records: dict[int, Record]) -> dict[str, Any]:
        """Write the manifest of a run whose parts are all complete, and remove the records; returns it."""
        run = self._run
        self._store.sweep(self._written())  # what was left by a cluster's worker that ended, and was replaced
        manifest = run.manifest([records[part.number] for part in run.parts])
        write_json(self._store, run.manifest_name, manifest)
        for name in self._outdated:
            self._store.remove(name)
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
    """The seed of the run whose file of this name, or whose parts, a store holds; None if it holds none of a seed."""
    names = list(filter(store.holds, [manifest_beside(file)]))
    names += [] if file else claims_in(store)
    if not names:
        return None
    seed = read_json(store, names[0]).get("seed", "")
    if seed is not None and type(seed) is not int:
        raise DataError(f"{store.path(names[0])} is damaged: its seed is {seed!r:.60}")
    return seed


def _differences(there: dict[str, Any], here: dict[str, Any]) -> str:
    """What differs, for people; what only the manifest of a complete run has is not compared."""
    found = []
    for key, value in here.items():
        if isinstance(value, dict) and isinstance(there.get(key), dict):
            found.append(_differences(there[key], value))
        elif there.get(key) != value:
            found.append(f"{key} is {there.get(key)} there and {value} here")
    return ", ".join(filter(None, found))
