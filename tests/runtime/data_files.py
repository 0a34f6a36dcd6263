"""What tests of data sets share: folders of pictures and arrays, and the images of a data set."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
from PIL import Image
from vae_gen.data.datasets import DataSet


def fill(folder: Path, count: int = 24, height: int = 6, width: int = 8) -> dict[str, np.ndarray]:
    """Grey PNG files that all differ; their pixels by name."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(count)
    pictures = {f"{number:02}.png": random.integers(0, 256, (height, width), np.uint8) for number in range(count)}
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / name)
    return pictures


def in_order(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def everything(data: DataSet) -> np.ndarray:
    parts = [data.validation, data.train] if data.test is None else [data.test, data.validation, data.train]
    return np.concatenate(parts)


def sizes(data: DataSet) -> tuple[int, int, int]:
    return len(data.train), len(data.validation), 0 if data.test is None else len(data.test)


def by_name(data: DataSet, names: list[str]) -> dict[str, np.ndarray]:
    """The images of a folder without split folders, by the names of their files."""
    return dict(zip(in_order(names), everything(data), strict=True))


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
