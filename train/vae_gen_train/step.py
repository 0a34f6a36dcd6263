"""One optimiser step: a batch through the network, its objective, gradients, and Adam.

A step's batch is divided evenly over `accumulate` micro-batches, one after the other, and each of these over the
processes. The noise of z is drawn for the whole batch, as one process would, and every part takes its rows; dropout
is drawn for each part, from a stream of its own. Where the objective is no sum over images, micro-batches are computed
twice: first for the means over all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from vae_gen.images import ByteImages

from vae_gen_train.config import TrainConfig
from vae_gen_train.devices import autocast, to_float
from vae_gen_train.distributed import World
from vae_gen_train.evaluation import Losses
from vae_gen_train.nets import VAE
from vae_gen_train.objective import OBJECTIVES, Average, Terms, as_it_is, measure, valued_at
from vae_gen_train.random_streams import Stream, seed_torch
from vae_gen_train.schedule import kl_weight, learning_rate

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """What one step measured. Its numbers stay on the device, so that only who asks for them waits."""

    step: int
    indices: Indices  # of the batch's images
    numbers: Tensor  # reconstruction, kl, penalty, sse, and the norm of all gradients before they were clipped, or 0

    @property
    def losses(self) -> Losses:
        reconstruction, kl, penalty, sse, _ = self.numbers.cpu().tolist()
        return Losses(reconstruction, kl, reconstruction + penalty, sse)


class Stepper:
    """What takes the steps of a run."""

    def __init__(
        self,
        vae: VAE,
        optimiser: torch.optim.Optimizer,
        images: ByteImages,
        config: TrainConfig,
        device: torch.device,
        world: World,
    ) -> None:
        self.images, self.config, self.device, self.world = images, config, device, world
        self.optimiser = optimiser
        self.parameters = list(vae.parameters())
        self.network = world.wrap(vae)
        # Parts of a step may be propagated back one after the other, without knowing of each other.
        self.additive = OBJECTIVES[config.objective].nats is as_it_is and not config.free_bits
        # On a CPU it takes some per cent of a step of a large network. Where it is not measured, gradients that are not
        # finite show in the next step's loss (see divergence.py).
        self.measures_norm = config.clip_norm > 0 or device.type != "cpu"

    def gradients(self, step: int, indices: Indices) -> Reading:
        """Compute the gradients of `step`, counted from 1, for these images, clipped if they shall be."""
        config = self.config
        self.optimiser.zero_grad()
        means = self._means(step, indices) if config.accumulate > 1 and not self.additive else None
        sums = None
        for number, (rows, noise) in enumerate(self._shares(step, indices)):
            last = number == config.accumulate - 1
            with self._gradients_exchanged(last):
                terms = self._terms(step, rows, noise, self.world.average if means is None else valued_at(means))
                (terms.total / config.accumulate).backward()  # type: ignore[no-untyped-call]
            values = torch.stack([terms.reconstruction, terms.kl, terms.penalty, terms.squared_error]).detach()
            sums = values if sums is None else sums + values
        assert sums is not None
        norm = torch.zeros_like(sums[0])
        if self.measures_norm:
            norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
            if config.clip_norm:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, config.clip_norm, norm)
        return Reading(step, indices, torch.cat([sums / config.accumulate, norm[None]]))

    def apply(self, step: int) -> None:
        """Let Adam change the weights by these gradients."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, step)
        self.optimiser.step()

    def _shares(self, step: int, indices: Indices) -> Iterator[tuple[Indices, Tensor | None]]:
        """This process's part of each micro-batch, and its noise: None where the network may draw it itself."""
        config, world = self.config, self.world
        seed_torch(config.seed, Stream.STEPS, step)
        parts = config.accumulate * world.size
        if parts == 1 and config.precision == "fp32":  # the network draws in its own precision
            yield indices, None
            return
        noise = torch.randn(len(indices), config.latent_dim, device=self.device).tensor_split(parts)
        for part in range(world.rank, parts, world.size):
            seed_torch(config.seed, Stream.DROPOUT, step, part)
            yield np.array_split(indices, parts)[part], noise[part]

    def _means(self, step: int, indices: Indices) -> list[Tensor]:
        """The means over all the step's images that its objective is a function of, as `measure` asks for them."""
        parts: list[list[Tensor]] = []
        for rows, noise in self._shares(step, indices):
            of_part: list[Tensor] = []

            def noted(mean: Tensor, into: list[Tensor] = of_part) -> Tensor:
                into.append(self.world.average(mean))
                return into[-1]

            with torch.no_grad():
                self._terms(step, rows, noise, noted)
            parts.append(of_part)
        return [torch.stack(means).mean(0) for means in zip(*parts, strict=True)]

    def _terms(self, step: int, rows: Indices, noise: Tensor | None, average: Average) -> Terms:
        config = self.config
        image = to_float(self.images[rows], self.device)
        with autocast(config.precision, self.device):
            output, mean, log_var = self.network(image, noise)
        objective = OBJECTIVES[config.objective]
        posterior = mean.float(), log_var.float()
        weight = kl_weight(config, step)
        return measure(objective, image, output.float(), *posterior, weight, config.free_bits, average)

    def _gradients_exchanged(self, last: bool) -> AbstractContextManager[None]:
        """Between processes gradients are averaged once a step, with the last micro-batch."""
        if last or not isinstance(self.network, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return self.network.no_sync()


def adam(vae: VAE, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW for all parameters of `vae`; what decays is the weights of the layers not next to the latents.

    Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2. The scale of the layers next to the
    latents is what the KL divergence weighs against the reconstruction.
    """
    _, *decoder = _weights(vae.decoder)
    decaying = [*_weights(vae.encoder.features), *decoder]
    ids = {id(weight) for weight in decaying}
    others = [parameter for parameter in vae.parameters() if id(parameter) not in ids]
    groups = [{"params": decaying, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, config.lr, fused=True)


def _weights(network: nn.Module) -> list[nn.Parameter]:
    """Of its layers, in their order; without biases."""
    return [parameter for parameter in network.parameters() if parameter.ndim > 1]
