"""Points of the latent space as people name them: seeds, numbers, files of latents, and pictures."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from vae_gen.data.image_arrays import Array
from vae_gen.data.pictures import load_pictures
from vae_gen.data.tones import AS_THEY_ARE, Tones
from vae_gen.errors import UsageError
from vae_gen.files import as_text
from vae_gen.images import FloatImages
from vae_gen.latent_files import read_latents
from vae_gen.latents import Latents, draw

if TYPE_CHECKING:
    from vae_gen.model import Model

LONGEST_NAME = 16  # characters, in a caption
CUT = "\u2026"
SEED = re.compile(r"([0-9]{1,99})(?::([0-9]{1,99}))?")


@dataclass(frozen=True)
class Points:
    """Points in order; what each was called, with its number where a file holds several; the pictures among them."""

    names: list[str]
    latents: Latents  # [n, latent_dim]
    pictures: FloatImages  # [m, C, H, W]
    files: list[Path]  # that these were read from


def is_seed(source: str) -> bool:
    """Whether it reads as SEED or SEED:INDEX."""
    return SEED.fullmatch(source) is not None


def read_points(sources: Sequence[str], model: Model, stdin: TextIO, tones: Tones = AS_THEY_ARE) -> Points:
    """The points that these name, in order.

    "7" is what seed 7 draws for its image 0 and "7:41" for its image 41. A file of latents, and numbers between commas,
    are as in `read_latents`; another file or folder holds pictures, as in `load_pictures`, each of which becomes the
    mean of its posterior. An .npy array with two axes holds latents, but one
    of a grey model's height x width a picture; where that is also [n, latent_dim], if its values can be a picture's.
    Raises UsageError for what is none of these, and what the readers raise.
    """
    names: list[str] = []
    latents: list[Latents] = []
    pictures = [np.empty((0, *model.image_shape), np.float32)]
    files: list[Path] = []
    for source in sources:
        if match := SEED.fullmatch(source):
            found = [source]
            latents.append(draw(int(match[1]), int(match[2] or 0), 1, model.latent_dim))
        elif _holds_pictures(source, model):
            loaded = load_pictures([Path(source)], model.image_shape, tones)
            found = [f"./{name}" if is_seed(name) else name for name in loaded.names]
            pictures.append(loaded.images)
            files += loaded.files
            latents.append(model.encode(loaded.images)[0])
        else:
            try:
                points = model.check_latents(read_latents(source, stdin, model.latent_dim))
            except UsageError as error:
                raise UsageError(
                    f"{error}. A point is a seed (7, or 7:41 for its image 41), such numbers, or a file or folder that "
                    "is there"
                ) from error
            name = "stdin" if source == "-" else as_text(source)
            found = [name] if len(points) == 1 else [f"{name}[{number}]" for number in range(len(points))]
            latents.append(points)
        names += found
    return Points(names, np.concatenate(latents), np.concatenate(pictures), files)


def short_name(name: str) -> str:
    """What a caption calls a point of that name: a long file name by its end, many latents by the first.

    It reads as a seed where one is meant alone: ./7 stays as it is, and a/7 becomes \u2026/7.
    """
    if len(name) > LONGEST_NAME and (numbers := _numbers_in(name)):
        shown = f"{numbers[0]:g},"
        for number in numbers[1:]:
            if len(shown + f"{number:g},{CUT}") > LONGEST_NAME:
                break
            shown += f"{number:g},"
        return shown + CUT
    own = Path(name).name
    if is_seed(own) and own != name:
        own = name if name == f"./{own}" else f"{CUT}/{own}"
    return own if len(own) <= LONGEST_NAME else CUT + own[1 - LONGEST_NAME :]


def _numbers_in(name: str) -> list[float]:
    """Latents that were typed; none if it is something else."""
    try:
        return [float(number) for number in name.split(",")] if "," in name else []
    except ValueError:
        return []


def _holds_pictures(source: str, model: Model) -> bool:
    """Whether there is such a file or folder, and it is none of latents."""
    if not os.path.exists(source):  # noqa: PTH110, unlike Path.exists it takes text of any length
        return False
    path = Path(source)
    suffix = path.suffix.lower()
    try:
        if suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                return "mean.npy" not in archive.namelist()
        if suffix == ".npy":
            array = np.load(path, mmap_mode="r")
            is_size_of_one = (1, *array.shape) == model.image_shape
            return array.ndim > 2 or (is_size_of_one and _can_be_pixels(array, model.latent_dim))
    except Exception:  # what damaged files raise can be anything; who reads pictures says what is wrong
        return True
    return suffix not in (".csv", ".txt")


def _can_be_pixels(array: Array, latent_dim: int) -> bool:
    """Whether an array of a picture's size is no latents; draws from N(0, 1) are not all in [0, 1]."""
    if array.shape[1] != latent_dim or array.dtype == np.uint8:
        return True
    return bool(((array >= 0) & (array <= 1)).all())
