"""Time per training step of notebook-relu: memory layout, and how stride-1 transposed convolutions are computed.

python benchmarks/train_step.py [--rounds 8] [--threads 2]

All variants take turns, so that a machine that is busy with other things is busy for each of them; compare the
medians with each other, not with another run's.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import torch
from torch import Tensor, nn
from turns import medians_in_turns
from vae_gen_train.nets import VAE, SameConvTranspose2d, build
from vae_gen_train.objective import kl_to_standard_normal, sum_of_squared_errors

STEPS = 5  # a round


class Plain(SameConvTranspose2d):
    """The same layer by PyTorch's own transposed convolution, and a crop."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        full = nn.functional.conv_transpose2d(input, self.weight, self.bias, self.stride, 1)
        size = input.shape[-1] * self.stride[0]
        return full[:, :, :size, :size]


def seconds_per_step(vae: VAE, optimiser: torch.optim.Optimizer, image: Tensor) -> float:
    started = time.perf_counter()
    for _ in range(STEPS):
        output, mean, log_var = vae(image)
        loss = sum_of_squared_errors(output, image).mean() + kl_to_standard_normal(mean, log_var).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return (time.perf_counter() - started) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    variants = {}
    for layer in (Plain, SameConvTranspose2d):
        for layout in (torch.contiguous_format, torch.channels_last):
            vae = build("notebook-relu", (1, 28, 28), 8)
            for module in vae.decoder:
                if isinstance(module, SameConvTranspose2d):
                    module.__class__ = layer
            vae = vae.to(memory_format=layout)
            image = torch.rand(64, 1, 28, 28).to(memory_format=layout)
            name = f"{'transposed' if layer is Plain else 'turned':10}  {str(layout).removeprefix('torch.')}"
            optimiser = torch.optim.Adam(vae.parameters(), 5e-4, fused=True)
            variants[name] = partial(seconds_per_step, vae, optimiser, image)

    medians = medians_in_turns(variants, arguments.rounds)
    slowest = max(medians.values())
    for name, median in medians.items():
        print(f"{name:30} {median * 1000:7.1f} ms a step  {median / slowest:5.2f} of the slowest")


if __name__ == "__main__":
    main()
