"""Latents in files and in text: .npy, .npz, .csv, a pipe, or typed on the command line."""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from vae_gen.errors import DataError, UsageError, VaeGenError
from vae_gen.files import LONGEST_NAME, is_there, make_folder, whole_file
from vae_gen.latents import Latents

WRITTEN = (".npy", ".npz", ".csv")
CRLF = "\r\n"
MAX_FLOAT32 = float(np.finfo(np.float32).max)


def read_latents(source: str, stdin: TextIO, latent_dim: int) -> npt.NDArray[np.float64]:
    """Latents [n, latent_dim]: typed numbers ("-1.0,1.0,0.5"), - for lines of them on stdin, or a file.

    A file is .npy, .npz (its array `mean`), or text with a line of numbers for each point, between commas or spaces.
    Where a line names columns, as `to_csv` does, the lines below it are read by mean_0, mean_1, ...
    Raises DataError if it cannot be read, UsageError if `source` is neither a file nor numbers.
    """
    try:
        if source == "-":
            return _parse_text(_text(stdin.buffer.read()), "stdin", latent_dim)
        try:
            return np.array([_parse_numbers(source.split(","), latent_dim)])
        except ValueError as error:
            flaw = f": {error}" if "," in source else ""
        path = Path(source)
        many_numbers = flaw and len(os.fsencode(path.name)) > LONGEST_NAME
        if many_numbers or not is_there(path) or path.is_dir():
            raise UsageError(
                f"{source!r} is neither a file nor {latent_dim} numbers between commas{flaw}; '-' reads lines of them "
                "from stdin"
            )
        return _read_file(path, latent_dim)
    except VaeGenError:
        raise
    except Exception as error:  # what a reader raises on a damaged file can be anything
        name = "stdin" if source == "-" else source
        cause = "it is not text" if isinstance(error, UnicodeDecodeError) else error
        raise DataError(
            f"cannot read latents from {name}: {cause}. A .npy or .npz file, or lines of {latent_dim} numbers between "
            "commas can be read; vae-gen encode makes them of pictures"
        ) from error


def _read_file(path: Path, latent_dim: int) -> npt.NDArray[np.float64]:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            latents = arrays["mean"]
    elif suffix == ".npy":
        with path.open("rb") as file:
            latents = np.lib.format.read_array(file, allow_pickle=False)
    else:
        return _parse_text(_text(path.read_bytes()), str(path), latent_dim)
    if latents.shape == (latent_dim,):  # one point
        latents = latents[None]
    if latents.ndim != 2 or latents.dtype.kind not in "iuf" or not latents.size or latents.shape[1] != latent_dim:
        shape = list(latents.shape)
        raise DataError(
            f"{path} holds {latents.dtype} numbers of shape {shape}; latents of this model are floats [n, {latent_dim}]"
        )
    return np.asarray(latents, np.float64)


def _text(content: bytes) -> str:
    """In UTF-8, or in UTF-16 as PowerShell writes it: with a mark in front."""
    return content.decode("utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")


def _parse_text(text: str, source: str, latent_dim: int) -> npt.NDArray[np.float64]:
    wanted = [f"mean_{dim}" for dim in range(latent_dim)]
    points: list[list[float]] = []
    header: list[str] = []
    columns: list[int] | None = None  # all of them, in order
    lines = csv.reader(io.StringIO(text, newline=""))
    for cells in lines:
        here = f"line {lines.line_num} of {source}"
        if not any(cell.strip() for cell in cells) or cells == header:  # again where files follow one another
            continue
        named = [cell for cell in cells if cell.startswith("mean_")]
        if named and not header:
            if sorted(named) != sorted(wanted):
                raise DataError(
                    f"{here} names the columns {named[0]} to {named[-1]}; this model needs {wanted[0]} to {wanted[-1]}"
                )
            header, columns = cells, [cells.index(name) for name in wanted]
            continue
        try:
            means = cells if columns is None else [cells[column] for column in columns if column < len(cells)]
            points.append(_parse_numbers(means, latent_dim))
        except ValueError as error:
            raise DataError(f"{here} is not {latent_dim} numbers between commas: {error}") from error
    if not points:
        raise DataError(f"{source} holds no latents")
    return np.array(points)


def _parse_numbers(cells: Sequence[str], latent_dim: int) -> list[float]:
    """One point. Raises ValueError with the reason."""
    numbers: list[float] = []
    if len(cells) == 1 and len(cells[0].split()) > 1:  # between spaces, as numpy.savetxt writes them
        cells = cells[0].split()
    for place, cell in enumerate(cells, 1):
        try:
            numbers.append(float(cell))
        except ValueError:
            what = repr(cell) if cell.strip() else "empty"
            raise ValueError(f"number {place} of {len(cells)} is {what}") from None
        if not abs(numbers[-1]) <= MAX_FLOAT32:
            raise ValueError(f"number {place} of {len(cells)} is {cell.strip()}, which is not finite in float32")
    if len(numbers) != latent_dim:
        raise ValueError(f"there {'is' if len(numbers) == 1 else 'are'} {len(numbers)}")
    return numbers


def to_csv(names: Sequence[str], mean: Latents, log_var: Latents) -> str:
    """A line that names the columns, and one for each picture: its name, mean and log-variance.

    Numbers have as many digits as a float32 has.
    """
    dims = range(mean.shape[1])
    header = ["picture", *(f"mean_{dim}" for dim in dims), *(f"log_var_{dim}" for dim in dims)]
    rows = ([name, *means, *log_vars] for name, means, log_vars in zip(names, mean, log_var, strict=True))
    return "".join(map(_csv_line, [header, *rows]))


def _csv_line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator=CRLF).writerow(cells)  # it quotes cells with the line ends that it writes
    return text.getvalue().removesuffix(CRLF) + "\n"


def check_suffix(path: Path) -> None:
    """Raise UsageError unless `path` ends as a file that `write_latents` writes."""
    if path.suffix.lower() not in WRITTEN:
        raise UsageError(f"{path} does not end as a file of latents does; use one of {', '.join(WRITTEN)}")


def write_latents(path: Path, names: Sequence[str], mean: Latents, log_var: Latents) -> None:
    """Write `mean` as .npy, both arrays as .npz, or both with the pictures' names as .csv.

    Raises UsageError for another suffix, OutputError.
    """
    check_suffix(path)
    suffix = path.suffix.lower()
    make_folder(path.parent)
    with whole_file(path) as partial, partial.open("wb") as file:
        if suffix == ".npy":
            np.save(file, mean)
        elif suffix == ".npz":
            np.savez(file, mean=mean, log_var=log_var)
        else:
            file.write(to_csv(names, mean, log_var).encode())
