"""Weights from a file, into a network that they must fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from vae_gen.errors import DataError
from vae_gen.files import is_there

from vae_gen_export.blame import listed

# What trainers call the state dict in what they save beside it (Lightning; pythae).
NESTED = ("state_dict", "model_state_dict")
REFUSED = re.compile(r"GLOBAL ([\w.]+)")


def load_weights(network: nn.Module, path: Path) -> None:
    """Put the tensors of `path` into `network`: safetensors, or a state dict that torch.save has written.

    Of tensors that are one in the network, a file may hold one alone, as safetensors' `save_model` writes it.
    Raises DataError if it cannot be read without running what is in it, or has other tensors than the network.
    """
    found = _read(path)
    expected = network.state_dict()
    filled = {_place(expected[name]) for name in expected.keys() & found.keys()}
    missing = {name for name in expected.keys() - found.keys() if _place(expected[name]) not in filled}
    unexpected = found.keys() - expected.keys()
    other = [name for name in expected if name in found and found[name].shape != expected[name].shape]
    problems = []
    if missing:
        problems.append(f"it lacks {listed(name for name in expected if name in missing)}")
    if unexpected:
        problems.append(f"it has {listed(name for name in found if name in unexpected)}, which the network has not")
    if other:
        sizes = (f"{name} {list(found[name].shape)} for {list(expected[name].shape)}" for name in other)
        problems.append(f"it has {listed(sizes)}")
    if problems:
        raise DataError(f"{path} does not fit {type(network).__name__}: {'; '.join(problems)}")
    network.load_state_dict(found, strict=False)  # that was checked


def _place(tensor: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Where the values lie, the same for two names of one tensor."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if not is_there(path) or path.is_dir():
            raise DataError(f"there is no file {path}")
        values: Any = load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise DataError(f"{path} is no safetensors file: {error}") from error
    if isinstance(values, Mapping):
        values = next((values[name] for name in NESTED if isinstance(values.get(name), Mapping)), values)
    if not isinstance(values, Mapping) or not values:
        raise DataError(f"{path} holds no state dict but an object of type {type(values).__name__}; {ADVICE}")
    others = {name: type(value).__name__ for name, value in values.items() if not isinstance(value, Tensor)}
    if others:
        strange = listed(f"{name!r} is of type {kind}" for name, kind in others.items())
        raise DataError(f"{path} is no state dict: {strange}; {ADVICE}")
    return dict(values)


def _unpickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # pickle's, zip's, torch's
        if refused := REFUSED.search(str(error)):
            raise DataError(
                f"{path} holds more than tensors ({refused[1]}), and reading it would run code in it; {ADVICE}"
            ) from error
        raise DataError(f"{path} is damaged, or was not written by torch.save; {ADVICE}") from error


ADVICE = "write the weights with torch.save(network.state_dict(), FILE), or as safetensors"
