"""What a model says of itself: a Description inside each graph, and a Manifest beside the pair."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vae_gen.defaults import CHECKPOINT
from vae_gen.errors import BundleError
from vae_gen.files import as_text, is_there, whole_file
from vae_gen.reading import UNIT, flaw_of

SCHEMA = 1
MANIFEST = "manifest.json"
ENCODER = "encoder.onnx"
DECODER = "decoder.onnx"
COLOR_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's names, by the number of channels
STANDARD_NORMAL = "standard normal"


@dataclass(frozen=True)
class Description:
    """What a user of one graph must know. Raises BundleError when constructed with values that cannot be.

    The same values stand in both graphs' metadata, as text, and in the manifest, as JSON; those that have a default
    may be absent.
    """

    name: str
    bundle_id: str  # what an encoder and a decoder that belong together share
    latent_dim: int
    image_shape: tuple[int, int, int]  # channels, height, width
    licence: str
    prior: str = STANDARD_NORMAL  # what z is drawn from
    # Of the decoder's output; the encoder's input is always [batch, channels, height, width] in [0, 1].
    value_range: tuple[float, float] = UNIT
    layout: str = "NCHW"  # or another of reading.LAYOUTS
    # How many rows a run of the graph takes: 1 where they are not independent of each other. None: the fastest.
    rows_per_run: int | None = None
    # Of the aggregate posterior, one number for each latent: the mean and the standard deviation of z over
    # validation images, and the mean KL divergence from the prior in nats. Empty where nobody measured.
    latent_mean: tuple[float, ...] = ()
    latent_std: tuple[float, ...] = ()
    latent_kl: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.latent_dim < 1:
            raise BundleError(f"latent_dim is {self.latent_dim}; a model has at least one latent")
        sizes = [*self.image_shape, self.latent_dim]
        if any(type(size) is not int for size in sizes):
            raise BundleError(f"image_shape is {self.image_shape}; its sizes must be whole numbers")
        if len(self.image_shape) != 3 or min(self.image_shape) < 1 or self.image_shape[0] not in COLOR_MODES:
            raise BundleError(f"image_shape is {self.image_shape}; it must be (1, 3 or 4 channels, height, width)")
        for name in ("latent_mean", "latent_std", "latent_kl"):
            values = getattr(self, name)
            if len(values) not in (0, self.latent_dim) or not all(abs(value) < math.inf for value in values):
                raise BundleError(f"{name} is {values}; it must have one finite number for each latent, or none")
        for name in ("name", "licence"):
            if as_text(getattr(self, name)) != getattr(self, name):
                raise BundleError(f"{name} is {getattr(self, name)!r}; it has bytes that are no text, choose another")
        if self.rows_per_run is not None and self.rows_per_run < 1:
            raise BundleError(f"rows_per_run is {self.rows_per_run}; a run takes at least 1")
        if self.prior != STANDARD_NORMAL:
            raise BundleError(f"prior is {self.prior!r}; this version of vae-gen knows {STANDARD_NORMAL!r} only")
        flaw = flaw_of(self.layout, self.value_range)
        if flaw:
            raise BundleError(flaw)

    @property
    def color_mode(self) -> str:
        return COLOR_MODES[self.image_shape[0]]

    def as_metadata(self) -> dict[str, str]:
        """The values as an ONNX graph's metadata_props: strings as they are, all else as JSON."""
        values = {**dataclasses.asdict(self), "color_mode": self.color_mode, "schema": SCHEMA}
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: str) -> Description:
        """What a graph's metadata says. Raises BundleError, naming `source`, if it is incomplete or wrong."""
        try:
            texts = {"name", "bundle_id", "licence", "prior", "layout"}
            stated = [key for key in _fields(cls) if key in metadata]
            values = {key: metadata[key] if key in texts else json.loads(metadata[key]) for key in stated}
            _check_schema(json.loads(metadata["schema"]), source)
        except (KeyError, ValueError, RecursionError) as error:
            raise BundleError(f"the metadata of {source} is incomplete or damaged: {error}") from error
        return cls.from_json(values, source)

    @classmethod
    def from_json(cls, values: dict[str, Any], source: str) -> Description:
        _check_fields(cls, values, source)
        return cls.build(
            {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}, source
        )

    @classmethod
    def build(cls, values: dict[str, Any], source: str) -> Description:
        """A description with these values. Raises BundleError, naming `source`, if they cannot be."""
        try:
            return cls(**values)
        except BundleError as error:
            raise BundleError(f"{source}: {error}") from error


@dataclass(frozen=True)
class Manifest:
    """A bundle's manifest.json: the description, both files' hashes, and where the model came from."""

    description: Description
    sha256: dict[str, str]  # file name -> hash of its bytes
    training: dict[str, Any]  # data, configuration, steps, package versions
    metrics: dict[str, Any]  # with the command that measured them
    export: dict[str, Any]  # parity with PyTorch, what was folded, package versions

    def write(self, directory: Path) -> None:
        """Write manifest.json, whole or not at all.

        Raises OutputError, BundleError if there is something in it that could not be read again.
        """
        text = json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}, indent=2)
        try:
            _check_json(json.loads(text))
        except ValueError as error:
            raise BundleError(f"{directory / MANIFEST} is not written, as it could not be read: {error}") from error
        with whole_file(directory / MANIFEST) as partial:
            partial.write_text(text + "\n", "utf-8")

    def record(self, directory: Path, **metrics: Any) -> None:
        """Add `metrics` to those in the directory's manifest.json, which must still say what this one does.

        Raises OutputError if it cannot be written, BundleError if the bundle has been replaced meanwhile.
        """
        if Manifest.read(directory) != self:
            raise BundleError(f"{directory / MANIFEST} has changed since it was read; measure the model again")
        dataclasses.replace(self, metrics={**self.metrics, **metrics}).write(directory)

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """The manifest of the bundle in `directory`. Raises BundleError if there is none or it is not valid."""
        path = directory / MANIFEST
        try:
            if not is_there(path):
                raise BundleError(f"{directory} is not a bundle: it has no {MANIFEST}{_what_else(directory)}")
            values = json.loads(path.read_text("utf-8"))
            _check_json(values)
        except (OSError, ValueError, RecursionError) as error:
            raise BundleError(f"cannot read {path}: {error}") from error
        if not isinstance(values, dict):
            raise BundleError(f"{path} is no manifest: it holds no JSON object")
        if "decoder_sha256" in values:  # of a run
            raise BundleError(
                f"{directory} is no bundle but holds images that vae-gen has made, of the model "
                f"{values.get('model')!r:.60}; give that model's name or path"
            )
        _check_schema(values.pop("schema", None), str(path))
        _check_fields(cls, values, str(path))
        values["description"] = Description.from_json(values["description"], str(path))
        return cls(**values)

    def check_file(self, path: Path) -> None:
        """Raise BundleError unless `path` is there and has the content that the manifest was written for."""
        if path.name not in self.sha256:
            raise BundleError(f"{path.parent / MANIFEST} does not list {path.name}")
        if not path.is_file():
            raise BundleError(f"{path.parent} is incomplete: {path.name} is missing")
        found = sha256_of(path)
        if found != self.sha256[path.name]:
            raise BundleError(
                f"{path} is not the file its manifest describes: its SHA-256 is {found}, "
                f"{self.sha256[path.name]} is expected; export or install the model again"
            )


def _check_json(values: object) -> None:
    """Raise ValueError if there is a number or a text that JSON cannot hold or nobody could show."""
    json.dumps(values, ensure_ascii=False, allow_nan=False).encode()


def sha256_of(*paths: Path) -> str:
    """Of the contents of the files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def _fields(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _what_else(directory: Path) -> str:
    """The end of a message about a directory that is no bundle: what it is, or where in it one is."""
    if is_there(directory / CHECKPOINT):
        return "; it is a training run, and vae-gen export makes one of it"
    inside = sorted(path.parent for path in directory.glob(f"*/{MANIFEST}") if is_there(path.parent / DECODER))
    more = f", and {len(inside) - 3:,} more" * (len(inside) > 3)
    return f"; in it there are {', '.join(map(str, inside[:3]))}{more}" if inside else ""


def _check_schema(found: object, source: str) -> None:
    if type(found) is not int or found != SCHEMA:
        raise BundleError(
            f"{source} has schema version {found!r}; this version of vae-gen reads version {SCHEMA}: "
            "update vae-gen, or export the model again"
        )


# The JSON type of every field, by its annotation's first word.
_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "int | None": (int, type(None)),
    "tuple": (list, tuple),
    "dict": (dict,),
    "Description": (dict,),
}


def _check_fields(cls: type, values: dict[str, Any], source: str) -> None:
    """Every field there that has no default, none unknown, each of its JSON type; the elements of lists are numbers."""
    fields = {field.name: str(field.type).partition("[")[0] for field in dataclasses.fields(cls)}
    needed = {field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING}
    missing, unknown = needed - values.keys(), values.keys() - fields.keys()
    if missing or unknown:
        problems = [f"it lacks {name!r}" for name in sorted(missing)]
        problems += [f"it has unknown {name!r}" for name in sorted(unknown)]
        raise BundleError(f"{source} is not valid: {', '.join(problems)}")
    for name, value in values.items():
        kind = fields[name]
        valid = isinstance(value, _JSON_TYPES[kind]) and not isinstance(value, bool)
        if kind == "tuple":
            valid = valid and all(type(item) in (int, float) for item in value)
        if not valid:
            raise BundleError(f"{source} is not valid: {name} is {value!r}")
