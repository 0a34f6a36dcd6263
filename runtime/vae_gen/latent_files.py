"""Latents in files and in text: .npy, .npz, .csv, a pipe, or typed on the command line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from vae_gen.errors import DataError, UsageError, VaeGenError
from vae_gen.files import make_folder, whole_file
from vae_gen.latents import Latents

WRITTEN = (".npy", ".npz", ".csv")


def read_latents(source: str, stdin: TextIO) -> npt.NDArray[np.float64]:
    """Latents [n, latent_dim]: typed numbers ("-1.0,1.0,0.5"), - for lines of them on stdin, or a file.

    A file is .npy, .npz (its array `mean`), or text with a line of numbers between commas for each point.
    Raises DataError if it cannot be read, UsageError if `source` is neither a file nor numbers.
    """
    if source == "-":
        return _parse_lines(stdin.read(), "stdin")
    try:
        return np.array([_parse_line(source)])
    except ValueError:
        pass
    try:
        path = Path(source)
        if not path.exists() or path.is_dir():
            raise UsageError(
                f"{source!r} is neither a file nor numbers between commas, such as 0.5,-1,2; - reads lines from stdin"
            )
        return _read_file(path)
    except VaeGenError:
        raise
    except Exception as error:  # what a reader raises on a damaged file can be anything
        raise DataError(f"cannot read latents from {source}: {error}") from error


def _read_file(path: Path) -> npt.NDArray[np.float64]:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            latents = arrays["mean"]
    elif suffix == ".npy":
        with path.open("rb") as file:
            latents = np.lib.format.read_array(file, allow_pickle=False)
    else:
        return _parse_lines(path.read_text("utf-8-sig"), str(path))
    if latents.ndim != 2 or latents.dtype.kind not in "iuf" or not latents.size:
        shape = list(latents.shape)
        raise DataError(f"{path} holds {latents.dtype} numbers of shape {shape}; latents are floats [n, latent_dim]")
    return np.asarray(latents, np.float64)


def _parse_lines(text: str, source: str) -> npt.NDArray[np.float64]:
    rows: list[list[float]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(_parse_line(line))
        except ValueError as error:
            raise DataError(f"line {number} of {source} is not numbers between commas: {error}") from error
        if len(rows[-1]) != len(rows[0]):
            raise DataError(f"line {number} of {source} has {len(rows[-1])} numbers, the first has {len(rows[0])}")
    if not rows:
        raise DataError(f"{source} holds no latents")
    return np.array(rows)


def _parse_line(line: str) -> list[float]:
    return [float(number) for number in line.split(",")]


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
