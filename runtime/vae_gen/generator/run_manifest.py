"""What a run's manifest says, checked: which parts it must have, and with which hashes."""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vae_gen.defaults import FORMATS
from vae_gen.errors import DataError, UsageError
from vae_gen.files import as_text
from vae_gen.generator.generate import expected_record
from vae_gen.generator.indices import Indices
from vae_gen.generator.parts import OF_A_SHARD, Layout, Part
from vae_gen.generator.runs import PARTS, Record
from vae_gen.images import ImageShape
from vae_gen.stores import Store

OWN_TO_A_SHARD = ("command", "shard", "parts")
GRID_SIZE = re.compile("[0-9]{1,9}x[0-9]{1,9}")
SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Outline(Layout):
    """What one shard of a run is to make."""

    name: str  # of the file that says so
    values: dict[str, Any]  # as JSON has them
    image_shape: ImageShape


@dataclass(frozen=True)
class RunManifest(Outline):
    """What a shard of a run has made."""

    command: str  # that made it, without --out

    @property
    def records(self) -> Iterator[tuple[Part, Record]]:
        return zip(self.parts, self.values["parts"], strict=True)

    @property
    def reads_stdin(self) -> bool:
        """Whether the command repeats the run only with the latents that it was given on standard input."""
        return " --z - " in self.command


def read_json(store: Store, name: str) -> dict[str, Any]:
    """The JSON object in a file. Raises DataError if it holds none."""
    with store.open(name) as file:
        content = file.read()
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(store.path(name), str(error)) from error
    if not isinstance(values, dict):
        raise _damaged(store.path(name), "it holds no JSON object")
    return values


def read_outline(store: Store, name: str, file: str = "") -> Outline:
    """What an unfinished run, or a complete one, says that it is to make. Raises DataError if it is damaged."""
    return Outline(**_outline(store.path(name), read_json(store, name), name, file))


def read_manifest(store: Store, name: str, file: str = "") -> RunManifest:
    """The manifest of that name, of a run whose only file is `file` if it is given one.

    Raises DataError if it is damaged: if it does not list the very parts that its run is cut into.
    """
    path, values = store.path(name), read_json(store, name)
    if file and PARTS not in values and "decoder_sha256" in values:
        raise DataError(f"{store.path(file)} is of an unfinished run; the same command with --overwrite makes it anew")
    manifest = RunManifest(**_outline(path, values, name, file), command=_of_type(path, values, "command", str))
    if not _is_own(manifest.command):
        raise _damaged(path, f"its command is {_short(manifest.command)}, which no run writes")
    records = _of_type(path, values, "parts", list)
    if len(records) != manifest.parts.total:
        raise _damaged(path, f"it lists {len(records):,} parts, and its run has {manifest.parts.total:,}")
    for part, record in zip(manifest.parts, records, strict=True):
        if not is_record(record, part):
            raise _damaged(path, f"what it says of part {part.number} is not what its run has there")
    return manifest


def is_record(record: object, part: Part) -> bool:
    """Whether something read from JSON is the record of this part, with whatever hashes."""
    expected = expected_record(part)
    if not isinstance(record, dict) or record.keys() != expected.keys():
        return False
    hashes = {key: record[key] for key in expected if key.endswith("sha256")}
    return record == expected | hashes and all(SHA256.fullmatch(str(value)) for value in hashes.values())


def _outline(path: str, values: dict[str, Any], name: str, file: str) -> dict[str, Any]:
    if "description" in values:
        raise DataError(f"{path} is the manifest of a model, and of no run; vae-gen info says what is in it")
    match = OF_A_SHARD.fullmatch(name)
    shard, shards = (int(match[1]), int(match[2])) if match and not file else (0, 1)
    kind, shape = _of_type(path, values, "format", str), _of_type(path, values, "image_shape", list)
    size, grid = values.get("shard_size"), values.get("grid")
    if kind not in FORMATS:
        raise _damaged(path, f"its format is {_short(kind)}")
    if len(shape) != 3 or any(type(side) is not int or side < 1 for side in shape):
        raise _damaged(path, f"its image_shape is {_short(shape)}")
    if size is not None and (type(size) is not int or size < 1):
        raise _damaged(path, f"its shard_size is {_short(size)}")
    if _of_type(path, values, "shards", int) != shards:
        raise _damaged(path, f"its shards are {_short(values['shards'])}, and by its name {shards}")
    if grid is not None and not GRID_SIZE.fullmatch(str(grid)):
        raise _damaged(path, f"its grid is {_short(grid)}")
    outline = {
        "name": name,
        "file": file,
        "values": values,
        "format": kind,
        "image_shape": tuple(shape),
        "part_size": size,
        "shard": shard,
        "shards": shards,
        "latents": _of_type(path, values, "latents", bool),
        "grid": tuple(map(int, grid.split("x"))) if grid else None,
    }
    try:
        indices = Indices.parse(_of_type(path, values, "indices", str))
        Layout(indices=indices, shard=shard, shards=shards)
    except UsageError as error:
        raise _damaged(path, str(error)[:60]) from error
    if values.get("images") != indices.count:
        images = _short(values.get("images"))
        raise _damaged(path, f"its images are {images}, and by its indices {indices.count}")
    return outline | {"indices": indices}


def _is_own(command: str) -> bool:
    """Whether somebody who pastes the command runs vae-gen, and nothing that is not seen."""
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    ours = words[:1] == ["vae-gen"] and words[1:2] in (["sample"], ["decode"])
    return ours and command == shlex.join(words) and all(map(_is_seen, as_text(command)))


def _is_seen(letter: str) -> bool:
    """Whether it is shown, be it as some kind of space, or joins the letters beside it."""
    return letter.isprintable() or letter in "\t\n\u200c\u200d" or unicodedata.category(letter) == "Zs"


def _of_type(path: str, values: dict[str, Any], key: str, kind: type) -> Any:
    if type(values.get(key)) is not kind:
        raise _damaged(path, f"its {key} is {_short(values.get(key))}")
    return values[key]


def _damaged(path: str, what: str) -> DataError:
    return DataError(f"{path} is no manifest of a run, or a damaged one: {what}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
