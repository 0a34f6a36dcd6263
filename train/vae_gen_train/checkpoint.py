"""A checkpoint: one safetensors file with the network, its averaged weights if the run keeps them, the optimiser,
the prior once it is being fitted and, in its header, all else as JSON.

Randomness and the position in the data follow from (seed, step), so the step is all the state there is
beside the tensors. A file is replaced as a whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn
from vae_gen.defaults import CHECKPOINT
from vae_gen.errors import DataError
from vae_gen.files import is_there, whole_file
from vae_gen.images import ImageShape

from vae_gen_train.config import TrainConfig
from vae_gen_train.nets import VAE, build
from vae_gen_train.prior import Prior, PriorFit

FILE_NAME = CHECKPOINT
FORMAT = "vae-gen checkpoint 1"
NETWORK, AVERAGED, OPTIMISER, PRIOR = "network.", "averaged.", "optimiser.", "prior."


@dataclass(frozen=True)
class Checkpoint:
    """What the header of a checkpoint says, and where its tensors lie."""

    path: Path
    header: str  # all of what follows, as it lies in the file
    step: int  # steps done, the prior's among them
    config: TrainConfig
    image_shape: ImageShape
    data: dict[str, Any]
    packages: dict[str, str]
    latents: dict[str, list[float]]  # per latent, of validation images: see evaluation.latent_statistics

    @classmethod
    def open(cls, run: Path) -> Checkpoint:
        """The checkpoint in a run's directory. Raises DataError if there is none that can be read."""
        path = run / FILE_NAME
        if not is_there(path):
            raise DataError(f"{run} is no training run: it has no {FILE_NAME}")
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise DataError(f"{path} is not a checkpoint of this program: its format is {header.get('format')!r}")
            values = json.loads(header["state"])
            values["config"] = TrainConfig(**values["config"])
            values["image_shape"] = tuple(values["image_shape"])
            return cls(path=path, header=header["state"], **values)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is damaged or of another version: {error}") from error

    def load_network(self) -> VAE:
        """The trained network, on the CPU, with the averaged weights if the run kept them, and with its prior."""
        vae = build(self.config.network, self.image_shape, self.config.latent_dim)
        self._load(vae, self._tensors(AVERAGED if self.config.ema else NETWORK))
        if not self.has_prior:
            return vae
        prior = Prior(self.config, vae)
        self._load(prior, self._tensors(f"{PRIOR}averaged."))
        return prior.around(vae)

    @property
    def has_prior(self) -> bool:
        """Whether fitting the prior has begun."""
        return self.step > self.config.steps

    def restore(self, vae: VAE, averaged: VAE, optimiser: torch.optim.Optimizer) -> None:
        """Put the saved tensors into a network, its average (itself, if there is none) and its optimiser."""
        self._load(vae, self._tensors(NETWORK))
        if averaged is not vae:
            self._load(averaged, self._tensors(AVERAGED))
        _restore_optimiser(vae, optimiser, self._tensors(OPTIMISER))

    def restore_prior(self, fit: PriorFit) -> None:
        """Put the saved tensors into a prior that is being fitted."""
        tensors = self._tensors(PRIOR)
        self._load(fit, {name: tensor for name, tensor in tensors.items() if not name.startswith(OPTIMISER)})
        for name, optimiser in fit.optimisers.items():
            prefix = f"{OPTIMISER}{name}."
            mine = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
            _restore_optimiser(fit, optimiser, mine)

    def _load(self, network: nn.Module, tensors: dict[str, Tensor]) -> None:
        """Put saved tensors into a network. Raises DataError where they are not its own: another version saved them."""
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise DataError(
                f"{self.path} is of another version, whose networks were built otherwise; train it again, or export it "
                f"with the version that trained it ({str(error).splitlines()[1].strip()[:200]})"
            ) from error

    def _tensors(self, prefix: str) -> dict[str, Tensor]:
        with safe_open(self.path, "pt") as file:
            if (file.metadata() or {}).get("state") != self.header:
                raise DataError(f"{self.path} was replaced while it was read, by a run that goes on; try again")
            names = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118, it is no dict
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}


def save(
    run: Path,
    vae: VAE,
    averaged: VAE,
    optimiser: torch.optim.Optimizer,
    fit: PriorFit | None,
    config: TrainConfig,
    **state: Any,
) -> None:
    """Replace the run's checkpoint; it is on the disk when this returns. Raises OutputError.

    `averaged` is `vae` itself where no averaged weights are kept, `fit` the prior once it is being fitted. `state` is
    what Checkpoint has beside the path and the configuration.
    """
    tensors = {NETWORK + name: tensor for name, tensor in vae.state_dict().items()}
    if averaged is not vae:
        tensors |= {AVERAGED + name: tensor for name, tensor in averaged.state_dict().items()}
    tensors |= {OPTIMISER + name: tensor for name, tensor in _optimiser_tensors(vae, optimiser)}
    if fit is not None:
        tensors |= {PRIOR + name: tensor for name, tensor in fit.state_dict().items()}
        for owner, each in fit.optimisers.items():
            tensors |= {f"{PRIOR}{OPTIMISER}{owner}.{name}": tensor for name, tensor in _optimiser_tensors(fit, each)}
    header = {"format": FORMAT, "state": json.dumps({"config": config.as_dict(), **state})}
    content = serialise({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, header)
    with whole_file(run / FILE_NAME) as partial, partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _optimiser_tensors(network: nn.Module, optimiser: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """Adam's state of those of the network's parameters that it has moved, as PARAMETER.FIELD."""
    for name, parameter in network.named_parameters():
        for field, tensor in optimiser.state.get(parameter, {}).items():
            yield f"{name}.{field}", tensor


def _restore_optimiser(network: nn.Module, optimiser: torch.optim.Optimizer, saved: dict[str, Tensor]) -> None:
    parameters = dict(network.named_parameters())
    for name, tensor in saved.items():
        owner, _, field = name.rpartition(".")
        parameter = parameters[owner]
        # Adam's moments lie in memory as their parameter does; its step counter is a scalar.
        like = parameter if tensor.shape == parameter.shape else tensor
        state = torch.empty_like(like, dtype=tensor.dtype, device=parameter.device).copy_(tensor)
        optimiser.state[parameter][field] = state
