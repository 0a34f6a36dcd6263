"""What tests of commands share: to run one, and the tiny model's pictures as it ought to make them."""

from __future__ import annotations

import ctypes
import io
import shlex
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from vae_gen.cli import main

from tests.runtime import reference


def run(*arguments: object, status: int = 0) -> None:
    assert main([str(argument) for argument in arguments]) == status


def words_of(command: str) -> list[str]:
    """Those of a command that was shown, as the system's shell takes it apart."""
    if sys.platform != "win32":
        return shlex.split(command)
    taken_apart = ctypes.windll.shell32.CommandLineToArgvW
    taken_apart.restype = ctypes.POINTER(ctypes.c_wchar_p)
    count = ctypes.c_int()
    words = taken_apart(ctypes.c_wchar_p(command), ctypes.byref(count))
    return [words[number] for number in range(count.value)]


def stream_of(text: str) -> io.TextIOWrapper:
    """Such as standard input is, with this text in it."""
    return io.TextIOWrapper(io.BytesIO(text.encode()))


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.moveaxis(np.asarray(picture), -1, 0)


def expected_pixels(z: np.ndarray) -> np.ndarray:
    return reference.round_half_up(reference.decode(z))


def save_pictures(z: np.ndarray, folder: str = "pictures") -> None:
    Path(folder).mkdir()
    for number, image in enumerate(expected_pixels(z)):
        Image.fromarray(image.transpose(1, 2, 0)).save(f"{folder}/{number}.png")


def frames_of(path: str) -> list[np.ndarray]:
    """Those of an animation, as RGB [3, H, W]."""
    with Image.open(path) as animation:
        found = []
        for number in range(animation.n_frames):
            animation.seek(number)
            found.append(np.moveaxis(np.asarray(animation.convert("RGB")), -1, 0))
        return found
