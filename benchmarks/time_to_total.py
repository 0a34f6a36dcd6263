"""How long notebook-relu and mlp train to the same test total with the notebook's objective and 8 latents.

python benchmarks/time_to_total.py --mlp-steps 4000 [--relu-steps 30000] [--threads 2] [--rounds 6]

Seconds a step are measured here, both presets taking turns; the numbers of steps are those after which each had the
total, by its metrics.jsonl: vae-gen train --preset mlp --objective sse --latent-dim 8 --prior-steps 0 --steps 4000
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from turns import medians_in_turns
from vae_gen_train.averaging import averaged_copy, update_average
from vae_gen_train.config import TrainConfig
from vae_gen_train.distributed import ALONE
from vae_gen_train.nets import build
from vae_gen_train.step import Stepper, adam

STEPS = 10  # a round


class Trained:
    """A network in training, on pictures of noise: the time of a step does not depend on what they show."""

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.step = config, 0
        images = np.random.default_rng(0).integers(0, 256, (5000, 1, 28, 28)).astype(np.uint8)
        torch.manual_seed(0)
        self.vae = build(config.network, (1, 28, 28), config.latent_dim).to(memory_format=torch.channels_last)
        self.averaged = averaged_copy(self.vae)
        self.stepper = Stepper(self.vae, adam(self.vae, config), images, config, torch.device("cpu"), ALONE)

    def seconds_per_step(self) -> float:
        order = np.random.default_rng(self.step).permutation(5000)
        started = time.perf_counter()
        for _ in range(STEPS):
            self.step += 1
            self.stepper.gradients(self.step, order[: self.config.batch_size])
            self.stepper.apply(self.step)
            if self.config.ema:
                update_average(self.averaged, self.vae, self.step, self.config.ema)
        return (time.perf_counter() - started) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlp-steps", type=int, required=True)
    parser.add_argument("--relu-steps", type=int, default=30_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    steps = {"notebook-relu": arguments.relu_steps, "mlp": arguments.mlp_steps}
    runs = {
        "notebook-relu": Trained(TrainConfig.from_preset("notebook-relu")),
        "mlp": Trained(TrainConfig.from_preset("mlp", objective="sse", latent_dim=8, steps=arguments.mlp_steps)),
    }
    medians = medians_in_turns({name: run.seconds_per_step for name, run in runs.items()}, arguments.rounds)
    totals = {name: medians[name] * steps[name] for name in runs}
    for name, total in totals.items():
        print(f"{name:14} {medians[name] * 1000:7.1f} ms a step, {steps[name]:6,} steps: {total:7,.0f} s")
    print(f"{totals['notebook-relu'] / totals['mlp']:.1f} times as fast")


if __name__ == "__main__":
    main()
