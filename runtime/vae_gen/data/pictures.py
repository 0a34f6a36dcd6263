"""People's files -> images that fit a model: what Pillow reads, arrays, archives of pictures, and folders of these."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from PIL import UnidentifiedImageError

from vae_gen.data.archives import ARCHIVE_SUFFIXES, Archive, archive_in
from vae_gen.data.fitting import fit_picture
from vae_gen.data.image_arrays import Array, as_images, fit_images, in_unit_range, read_arrays
from vae_gen.data.picture_files import (
    NO_PICTURE,
    is_figure,
    is_picture,
    may_be_picture,
    opened,
    picture_suffixes,
    unreadable,
    walk,
)
from vae_gen.data.tones import AS_THEY_ARE, Tones
from vae_gen.defaults import OF_MANY_IMAGES
from vae_gen.errors import DataError
from vae_gen.files import as_text, is_there
from vae_gen.generator.companions import latents_among
from vae_gen.idx import open_unpacked
from vae_gen.images import FloatImages, ImageShape, inverted, to_float

HOLD_MANY = tuple(dict.fromkeys(OF_MANY_IMAGES + ARCHIVE_SUFFIXES))  # suffixes

Found = tuple[list[str], FloatImages]  # images of a file and, for each, what tells it from others in that file


@dataclass(frozen=True)
class Pictures:
    """Images and, for each, the file it came from (with its number, where a file holds several)."""

    names: list[str]
    images: FloatImages  # [n, C, H, W] in [0, 1]
    files: list[Path]  # that they came from
    bad: list[str] = field(default_factory=list)  # a message for each file that cannot be read


def load_pictures(
    paths: Iterable[Path | str], image_shape: ImageShape, tones: Tones = AS_THEY_ARE, skip_bad: bool = False
) -> Pictures:
    """All pictures in these files and folders, in that order, as images of the given shape.

    A file may be a picture, an .npy, .npz or IDX array, or a tar or zip archive of pictures. Images of another size
    are scaled and cropped about their centre; transparent parts become white unless the images have an alpha channel.
    Of the files in a folder or an archive those are left out that are no pictures themselves: sheets and animations
    that vae-gen has drawn, a run's latents, and what has no suffix and is none that Pillow knows, or in an archive has
    more than 64 MiB.
    Raises DataError if nothing is found or, naming the file, if one cannot be read; with `skip_bad` only if none can.
    """
    names: list[str] = []
    parts: list[FloatImages] = []
    files: list[Path] = []
    bad: list[str] = []
    for path in _files(paths):
        name = as_text(path)
        try:
            found = list(_load_file(path, image_shape, tones.white, bad if skip_bad else None))
        except DataError as error:
            if not skip_bad:
                raise
            bad.append(str(error))
            continue
        files.append(path)
        names += [name + place for places, _ in found for place in places]
        parts += [images for _, images in found]
    if not parts:
        raise DataError(bad[0] if len(bad) == 1 else f"there is no picture that can be read: {unreadable(bad)}")
    images = np.concatenate(parts)
    return Pictures(names, inverted(images, 1) if tones.invert else images, files, bad)


def _files(paths: Iterable[Path | str]) -> Iterator[Path]:
    for path in map(Path, paths):
        try:
            if not is_there(path):
                raise DataError(f"there is no file or folder {path}")
            names = [name for name, _ in walk(path)] if path.is_dir() else None
        except OSError as error:
            raise DataError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
        if names is None:
            yield path
            continue
        suffixes = picture_suffixes()
        found = [name for name in names if is_picture(path / name, suffixes)]
        if not found:  # beside pictures, an array is of something else: of latents, or labels
            latents = latents_among(path, names)
            found = [name for name in names if name.lower().endswith(HOLD_MANY) and name not in latents]
        if not found:
            drawn = sum(PurePosixPath(name).suffix.lower() in suffixes for name in names)
            but = f" but {drawn} drawn by vae-gen (sheets, curves, animations)" if drawn else ""
            kinds = ", ".join(HOLD_MANY)
            raise DataError(
                f"the folder {path} holds no pictures{but}, and no {kinds} files; give others by their names"
            )
        yield from (path / name for name in found)


def _load_file(path: Path, image_shape: ImageShape, white: float | None, bad: list[str] | None) -> Iterator[Found]:
    """What a file holds; of an archive, pictures that cannot be read are left out and told to `bad`, if it is there."""
    try:
        with open_unpacked(path) as file:
            if not file.read(1):
                raise DataError(f"{path} is empty")
            file.seek(0)
            if arrays := read_arrays(file, path):
                yield from _load_arrays(arrays, image_shape, str(path), white)
                return
            with archive_in(file, path) as archive:
                if archive is None:
                    yield [""], _load_picture(file, image_shape, white)
                else:
                    yield from _load_archive(archive, image_shape, path, white, bad)
    except DataError:
        raise
    except UnidentifiedImageError as error:  # which names the buffer, not the file
        raise DataError(
            f"cannot read {path}: {NO_PICTURE}, and neither an .npy, .npz or IDX file nor a tar or zip archive"
        ) from error
    except Exception as error:  # what a decoder raises on damaged input can be anything
        raise DataError(f"cannot read {path} as a picture or a file of them: {error}") from error


def _load_arrays(
    arrays: Mapping[str, Array], image_shape: ImageShape, source: str, white: float | None
) -> Iterator[Found]:
    for split, array in arrays.items():
        within = "" if len(arrays) == 1 else f"/{split}"
        found = as_images(array, source, image_shape[0], image_shape, white)
        images = _fit(found, image_shape, source, white)
        yield [within] if len(images) == 1 else [f"{within}[{number}]" for number in range(len(images))], images


def _load_archive(
    archive: Archive, image_shape: ImageShape, path: Path, white: float | None, bad: list[str] | None
) -> Iterator[Found]:
    suffixes = picture_suffixes()
    found = False
    for name in sorted(archive.sizes, key=lambda name: name.split("/")):  # as in a folder
        if not may_be_picture(name, archive.sizes[name], suffixes):
            continue
        try:
            content = archive.read(name)
            with opened(io.BytesIO(content)) as picture:
                image = None if is_figure(picture) else fit_picture(picture, image_shape, white)
        except Exception as error:  # as above
            unidentified = isinstance(error, UnidentifiedImageError)
            if unidentified and not PurePosixPath(name).suffix:
                continue
            found = True
            why = "it is empty" if not archive.sizes[name] else NO_PICTURE if unidentified else error
            message = f"cannot read {path}/{as_text(name)}: {why}"
            if bad is None:
                raise DataError(message) from error
            bad.append(message)
            continue
        if image is not None:
            found = True
            yield [f"/{as_text(name)}"], to_float(image)[None]
    if not found:
        raise DataError(f"{path} holds no pictures that can be read")


def _load_picture(file: BinaryIO, image_shape: ImageShape, white: float | None = None) -> FloatImages:
    with opened(file) as picture:
        return to_float(fit_picture(picture, image_shape, white))[None]


def picture_in(content: bytes, image_shape: ImageShape, white: float | None = None) -> FloatImages:
    """The picture in the content of a file, fitted as `load_pictures` does: [1, C, H, W]. Raises DataError."""
    try:
        return _load_picture(io.BytesIO(content), image_shape, white)
    except UnidentifiedImageError as error:
        raise DataError(f"it is {NO_PICTURE}") from error
    except Exception as error:  # as above
        raise DataError(f"it cannot be read as a picture: {error}") from error


def _fit(images: Array, image_shape: ImageShape, source: str, white: float | None = None) -> FloatImages:
    """[n, C, H, W] of any size -> the model's; floats that have it already keep their values."""
    if not images.size:
        raise DataError(f"{source} holds no images")
    if images.shape[1:] == image_shape and (images.dtype != np.uint8 or white is not None):
        return in_unit_range(images, source, white).astype(np.float32)
    return to_float(np.concatenate(list(fit_images(images, image_shape, source, Tones(white=white)))))
