"""The batch generator: draw -> decode -> encode -> write. One part of a run is its unit of work."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_gen.bundles import find
from vae_gen.decoder import files_of
from vae_gen.errors import BundleError, OutputError
from vae_gen.generator.indices import Indices
from vae_gen.generator.parts import Part, picture_name
from vae_gen.generator.runs import Provenance, Record, Run, to_json, versions, write_json
from vae_gen.images import ByteImages, ImageShape
from vae_gen.latents import Latents
from vae_gen.manifest import DECODER
from vae_gen.model import Model, load
from vae_gen.png import PngEncoder
from vae_gen.reading import AS_STATED, Reading
from vae_gen.stores import Folder, Store, open_store

if TYPE_CHECKING:
    from vae_gen.containers import Container

State = tuple[int, ...]  # of a file

MAX_BATCH = 1024  # images
BATCH_BYTES = 2**20

Batch = tuple[Indices, Latents, ByteImages]
Progress = Callable[[int], None]


def make_part(
    run: Run, out: str, part: Part, threads: int = 1, batch_size: int | None = None, progress: Progress | None = None
) -> Record:
    """Make one part of a run and publish it in the store `out`; returns what the manifest says of it.

    All that it needs is in its arguments, so any concurrent.futures.Executor can run it, twice if need be: the
    bytes are the same. `progress` is called after every batch with its number of images.
    Raises OutputError if the part cannot be written or if the versions here are not the run's, BundleError if the
    model is not.
    """
    if run.versions != (here := versions(run.format)):
        raise OutputError(f"this worker has {_listed(here)}, and the run began with {_listed(run.versions)}")
    model = open_model(run.model, run.reading)
    if model.decoder_sha256 != run.decoder_sha256:
        raise BundleError(
            f"{run.model} is another model than the run began with: its decoder's SHA-256 is "
            f"{model.decoder_sha256}, not {run.decoder_sha256}"
        )
    store = open_store(out)
    batches = decode_each(model, run, part.indices, batch_size, threads)
    # A new folder that appears at once must say whose it is; other runs have said so before.
    claim = (run.claim_name, to_json(run.about)) if run.appears_at_once(store.is_new()) else None
    record = write_part(store, run, part, batches, progress, claim)
    if not run.file:
        write_json(store, part.record_name, record)
    return record


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def open_model(model: str, reading: Reading = AS_STATED) -> Model:
    """The model with a decoder that runs on one thread: several batches at a time make use of the others.

    It is kept until another is asked for, or its decoder's file, or one of the weights beside that, is replaced:
    whoever makes parts may outlive it.
    """
    path = find(model)
    decoder = path / DECODER if path.is_dir() else path
    network, weights = _opened(path, decoder, reading, _state(decoder))
    if any(_state(file) != state for file, state in weights.items()):
        _opened.cache_clear()
        network, _ = _opened(path, decoder, reading, _state(decoder))
    return network


@lru_cache(maxsize=1)
def _opened(path: Path, decoder: Path, reading: Reading, _decoder_state: State) -> tuple[Model, dict[Path, State]]:
    """The model, and the files beside its decoder that were read too, as they were."""
    network = load(path, 1, **vars(reading))
    return network, {file: _state(file) for file in files_of(decoder)[1:]}


def _state(file: Path) -> State:
    """What changes when a file is replaced; of one that is not there, nothing."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def plan(model: str, seed: int | None, indices: Indices, *, reading: Reading = AS_STATED, **options: Any) -> Run:
    """A run of that model, whose decoder is read like that; `options` are further fields of Run.

    Raises BundleError if there is no such model, UsageError if a value is out of range.
    """
    network = open_model(model, reading)
    identity = (network.name, network.decoder_sha256, network.image_shape, network.latent_dim, network.reading)
    return Run(model, *identity, seed=seed, indices=indices, reading=reading, **options)


def decode_each(
    model: Model, run: Run, indices: Indices, batch_size: int | None = None, threads: int = 1
) -> Iterator[Batch]:
    """Indices, latents and images in batches of `batch_size`, in order, made by `threads` threads.

    Without `batch_size` a batch is some megabyte of images.
    """

    def make(piece: Indices) -> Batch:
        z = run.z(piece)
        return piece, z, model.decode_bytes(z)

    size = batch_size or min(MAX_BATCH, max(1, BATCH_BYTES // math.prod(model.image_shape)))
    if indices.count < size * threads:  # a few images are shared among the threads too
        size = min(size, model.rows_per_run * math.ceil(indices.count / model.rows_per_run / threads))
    pieces = indices.batches(size)
    return map(make, pieces) if threads == 1 or indices.count <= size else _ahead(make, pieces, threads)


def _ahead(make: Callable[[Indices], Batch], pieces: Iterator[Indices], threads: int) -> Iterator[Batch]:
    """What `make` makes of each piece, in order; as many as there are threads are made, or wait, at a time."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        queue = deque(pool.submit(make, piece) for piece in islice(pieces, threads))
        try:
            while queue:
                batch = queue.popleft().result()
                queue.extend(pool.submit(make, piece) for piece in islice(pieces, 1))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)


def write_part(
    store: Store,
    run: Run,
    part: Part,
    batches: Iterable[Batch],
    progress: Progress | None = None,
    claim: tuple[str, bytes] | None = None,
) -> Record:
    """Write the images of one part of a run, and their latents if it has them; returns the part's record.

    `claim` is the name and content of a file that a folder of pictures has from its beginning.
    Raises OutputError if they cannot be written; nothing is left of the part then.
    """
    pixels, values = hashlib.sha256(), hashlib.sha256()
    with ExitStack() as stack:
        # The last to be opened is the first to get its name: where the images are, the latents are.
        images_file = stack.enter_context(_open_part(store, run, part, claim))
        z_file = stack.enter_context(store.create(part.latents_name)) if part.latents_name else None
        for number, (indices, z, images) in enumerate(batches):
            if z_file:
                if number == 0:
                    shape = (part.indices.count, z.shape[1])
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(z_file, header)
                content = z.astype("<f4", copy=False).tobytes()
                values.update(content)
                z_file.write(content)
            images_file.write(images, list(indices))
            pixels.update(images.data)
            if progress:
                progress(indices.count)
        images_file.close()
        hashes = {"pixels_sha256": pixels.hexdigest()}
        if z_file:
            hashes["latents_sha256"] = values.hexdigest()
    return expected_record(part) | hashes


def expected_record(part: Part) -> Record:
    """What a manifest says of a part, but for the hashes."""
    record = {
        "name": part.name or ".",
        "images": part.indices.count,
        "indices": str(part.indices),
        "pixels_sha256": None,
    }
    return record | {"latents": part.latents_name, "latents_sha256": None} if part.latents_name else record


@contextmanager
def _open_part(store: Store, run: Run, part: Part, claim: tuple[str, bytes] | None) -> Iterator[Container]:
    if not part.is_file:
        with store.create_folder(part.name, part.stem) as folder:
            if claim:
                folder.write(*claim)
            yield PngFolder(folder, run.image_shape, run.provenance)
        return
    from vae_gen.containers import open_container  # its formats take as long to import as a hundred images to make

    with store.create(part.name) as file:
        yield open_container(run.format, file, part.indices.count, run.image_shape, run.provenance)


class PngFolder:
    """One PNG file an image, named by its index: 000000123.png."""

    def __init__(self, folder: Folder, image_shape: ImageShape, provenance: Provenance | None) -> None:
        self._folder = folder
        self._numbered = provenance is not None
        self._encoder = PngEncoder(image_shape, {key: str(value) for key, value in (provenance or {}).items()})

    def write(self, images: ByteImages, indices: Sequence[int]) -> None:
        files = self._encoder.encode(images, indices if self._numbered else None)
        for index, content in zip(indices, files, strict=True):
            self._folder.write(picture_name(index), content)

    def close(self) -> None:
        pass
