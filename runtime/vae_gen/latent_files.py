"""Latents in files and in text: .npy, .npz, .csv, a pipe, or typed on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import numpy as np

from vae_gen.errors import DataError, UsageError
from vae_gen.files import make_folder, whole_file
from vae_gen.latents import Latents

WRITTEN = (".npy", ".npz", ".csv")


def parse_latents(text: str) -> Latents:
    """One point typed as numbers between commas: "-1.0,1.0,0.5" -> float32 [1, 3]. Raises UsageError."""
    try:
        return np.array([[float(number) for number in text.split(",")]], np.float32)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is neither a file nor numbers between commas, such as 0.5,-1,2; - reads lines of them from stdin"
        ) from error


def read_latents(source: str, stdin: TextIO) -> Latents:
    """Latents [n, latent_dim] from a .npy file, a file of lines of numbers between commas, - or typed numbers.

    Raises DataError if the file cannot be read, UsageError if `source` is neither a file nor numbers.
    """
    if source != "-" and not Path(source).is_file():
        return parse_latents(source)
    name = "stdin" if source == "-" else source
    try:
        if source.endswith(".npy"):
            latents = np.load(source, allow_pickle=False)
        else:
            text = stdin.read() if source == "-" else Path(source).read_text("utf-8")
            rows = [line.split(",") for line in text.splitlines() if line.strip()]
            latents = np.array([[float(number) for number in row] for row in rows])
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"cannot read latents from {name}: {error}") from error
    if latents.ndim != 2 or not latents.size or not np.issubdtype(latents.dtype, np.floating):
        raise DataError(
            f"{name} holds an array of {latents.dtype} with shape {latents.shape}; latents are floats [n, latent_dim]"
        )
    return np.asarray(latents, np.float32)


def to_csv(latents: Latents) -> str:
    """One line a point, numbers between commas, with as many digits as a float32 has."""
    return "".join(",".join(str(number) for number in row) + "\n" for row in latents)


def check_suffix(path: Path) -> None:
    """Raise UsageError unless `path` ends as a file that `write_latents` writes."""
    if path.suffix.lower() not in WRITTEN:
        raise UsageError(f"{path} does not end as a file of latents does; use one of {', '.join(WRITTEN)}")


def write_latents(path: Path, mean: Latents, log_var: Latents) -> None:
    """Write `mean` as .npy or .csv, or both arrays as .npz. Raises UsageError for another suffix, OutputError."""
    check_suffix(path)
    suffix = path.suffix.lower()
    make_folder(path.parent)
    with whole_file(path) as partial, partial.open("wb") as file:
        if suffix == ".npy":
            np.save(file, mean)
        elif suffix == ".npz":
            np.savez(file, mean=mean, log_var=log_var)
        else:
            file.write(to_csv(mean).encode())
