"""Time per training step, with and without vae_gen_train.allocation.keep_freed_memory.

python benchmarks/allocation.py [--rounds 3] [--threads 2] [--kinds mlp flow samples conv32 conv64 conv128]

The pictures are noise: what they show does not change the time. Each measurement is a process of its own; those with
and those without take turns.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from turns import medians_in_turns
from vae_gen_train.allocation import keep_freed_memory
from vae_gen_train.config import TrainConfig
from vae_gen_train.devices import memory_format
from vae_gen_train.distributed import ALONE
from vae_gen_train.nets import build
from vae_gen_train.prior import PriorFit
from vae_gen_train.step import Stepper, adam

# What takes the steps: the VAE of mlp, its prior by likelihood or against the discriminator, the VAE of conv of a size.
# Of each: preset, channels, pixels of a side, the share of the prior's steps against the discriminator, steps.
KINDS = {
    "mlp": ("mlp", 1, 28, None, 400),
    "flow": ("mlp", 1, 28, 0.0, 400),
    "samples": ("mlp", 1, 28, 1.0, 200),
    "conv32": ("conv", 3, 32, None, 60),
    "conv64": ("conv", 3, 64, None, 30),
    "conv128": ("conv", 3, 128, None, 8),
}
CPU = torch.device("cpu")


def stepping(kind: str, threads: int) -> Callable[[int], object]:
    """A function that takes the step of that number."""
    preset, channels, side, share, _ = KINDS[kind]
    images = np.random.default_rng(0).integers(0, 256, (512, channels, side, side)).astype(np.uint8)
    config = TrainConfig.from_preset(preset, threads=threads, adversarial_share=share)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    vae = build(config.network, images.shape[1:], config.latent_dim).to(memory_format=memory_format(CPU))
    if share is not None:
        return PriorFit(vae, images, config, CPU).take_step
    stepper = Stepper(vae, adam(vae, config), images, config, CPU, ALONE)

    def step(number: int) -> None:
        stepper.gradients(number, np.arange(number, number + config.batch_size) % len(images))
        stepper.apply(number)

    return step


def measure(kind: str, threads: int) -> dict[str, float]:
    """Milliseconds a step, of time and of processors in the kernel, and the most memory in MB."""
    step, steps = stepping(kind, threads), KINDS[kind][-1]
    warm = steps // 4 + 1
    for number in range(1, warm):
        step(number)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for number in range(warm, warm + steps):
        step(number)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    kernel = (after.ru_stime - before.ru_stime) / steps
    return {"ms": seconds / steps * 1000, "kernel": kernel * 1000, "memory": after.ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)  # a kind, and whether memory is kept: a process
    arguments = parser.parse_args()
    if arguments.measure:
        kind, kept = arguments.measure
        if kept == "kept":
            keep_freed_memory()
        print(json.dumps(measure(kind, arguments.threads)))
        return

    others: dict[tuple[str, str], dict[str, float]] = {}

    def in_a_process(kind: str, kept: str) -> float:
        command = [sys.executable, __file__, "--threads", str(arguments.threads), "--measure", kind, kept]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        others[kind, kept] = found
        return float(found["ms"])

    print(f"{'':8} {'ms a step':>10} {'in the kernel':>14} {'kept':>10} {'in the kernel':>14} {'ratio':>6}  memory, MB")
    for kind in arguments.kinds:
        turns = {kept: partial(in_a_process, kind, kept) for kept in ("freed", "kept")}
        medians = medians_in_turns(turns, arguments.rounds)
        freed, kept = others[kind, "freed"], others[kind, "kept"]
        print(
            f"{kind:8} {medians['freed']:10.1f} {freed['kernel']:14.1f} {medians['kept']:10.1f} {kept['kernel']:14.1f} "
            f"{medians['kept'] / medians['freed']:6.2f}  {freed['memory']:.0f} and {kept['memory']:.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
