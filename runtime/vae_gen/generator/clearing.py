"""What earlier runs have left in --out, and its removal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from vae_gen.errors import DataError, OutputError
from vae_gen.generator.parts import CLAIM, MANIFEST, STATE, Part, picture_name
from vae_gen.generator.run_manifest import read_outline
from vae_gen.stores import Store


def in_the_way(store: Store, files: Collection[str] = ()) -> list[str]:
    """What `store` holds already where these files, or if none are named any number of parts, are to be."""
    if files:
        return list(filter(store.holds, files))
    there = store.names()
    return [] if there == [STATE] and not store.names(STATE) else there  # of a run that was killed as it began


def manifests_in(there: Iterable[str]) -> list[str]:
    return list(filter(MANIFEST.fullmatch, there))


def claims_in(store: Store) -> list[str]:
    return [f"{STATE}/{name}" for name in filter(CLAIM.fullmatch, store.names(STATE))]


def clear(store: Store, parts: Iterable[Part]) -> None:
    """Remove what earlier runs have left in a folder: what their manifests and claims list, and nothing else.

    What a killed one had begun of it goes as well. `parts` are to be written there next.

    Raises DataError if one of them is damaged, OutputError if somebody has put something else into a part's folder;
    nothing has been removed then.
    """
    known = manifests_in(store.names())
    try:
        outlines = [read_outline(store, name) for name in [*known, *claims_in(store)]]
    except DataError as error:
        raise DataError(f"{error}; choose another --out, or remove it yourself") from error
    listed = {part.name for outline in outlines for part in outline.parts}
    for outline in outlines:
        check_folders(store, outline.parts)
    check_folders(store, (part for part in parts if part.name not in listed))
    for outline in outlines:
        remove_parts(store, outline.parts)
        if outline.grid_name:
            store.remove(outline.grid_name)
    for name in [*known, STATE]:
        store.remove(name)
    grids = [outline.grid_name for outline in outlines if outline.grid_name]
    store.sweep(chain(known, grids, *(written(outline.parts) for outline in outlines)))


def written(parts: Iterable[Part]) -> Iterator[str]:
    """All names that are written to when these are made."""
    for part in parts:
        yield from (part.name or part.stem, part.record_name)
        if part.latents_name:
            yield part.latents_name


def check_folders(store: Store, parts: Iterable[Part]) -> None:
    """Raise OutputError if there is anything but hidden files and their own pictures in the folders of these parts."""
    there = set(store.names())
    for part in parts:
        if part.has_folder and part.name in there:
            others = set(store.names(part.name)).difference(map(picture_name, part.indices))
            other = min((name for name in others if not name.startswith(".")), default=None)
            if other is not None:
                raise OutputError(
                    f"{store.path(part.name)} would be removed, and {other} in it is none of its images; nothing was "
                    "removed. Move it elsewhere first"
                )


def remove_parts(store: Store, parts: Iterable[Part]) -> None:
    """Remove these parts of a run from a store, and with `check_folders` before it nothing else."""
    there = set(store.names())
    for part in parts:
        for name in part.files:
            if name in there:
                store.remove(name)
