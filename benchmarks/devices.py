"""A preset on the CPU and on a GPU: steps a second, and whether both come to the same loss.

python benchmarks/devices.py --data FOLDER_WITH_MNIST [--preset mlp] [--steps 500] [--seeds 5] [--device cuda]

Each device trains the preset's VAE, in float32 and in bfloat16, from the same seeds. These give both devices the same
first weights and batches, but other noise, so that their losses differ; they agree where the mean difference is no more
than a few of its standard errors. The exit status is 1 where they do not. Where PyTorch finds no GPU, other seeds on
the CPU take its place, and show what noise is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from vae_gen.data.datasets import DataSet, load_idx_directory
from vae_gen_train import trainer
from vae_gen_train.config import PRECISIONS, TrainConfig
from vae_gen_train.metrics_log import read_metrics

FEW = 5  # standard errors; five seeds that differ by noise alone exceed it once in 130 times, by Student's t


@dataclass(frozen=True)
class Found:
    """Of runs that differ in the seed."""

    rates: np.ndarray  # steps a second
    losses: np.ndarray  # of the validation images, the objective's total

    def errors_from(self, other: Found) -> float:
        """The mean difference of the losses, seed by seed, in standard errors."""
        differences = self.losses - other.losses
        deviation = differences.std(ddof=1)
        return float(differences.mean() / (deviation / len(differences) ** 0.5)) if deviation else 0.0


def trained(data: DataSet, preset: str, steps: int, device: str, precision: str, seeds: range) -> Found:
    rates, losses = [], []
    rarely = {"evaluate_every": steps, "checkpoint_every": steps, "picture_every": steps}
    for seed in seeds:
        settings = {"steps": steps, "device": device, "precision": precision, "seed": seed, "prior_steps": 0} | rarely
        with tempfile.TemporaryDirectory() as folder:
            trainer.train(data, Path(folder), TrainConfig.from_preset(preset, log_every=steps // 5, **settings))
            records = read_metrics(Path(folder))
        first, *_, last = [record for record in records if record["split"] == "train"]  # the first fifth warms up
        rates.append((last["step"] - first["step"]) / (last["seconds"] - first["seconds"]))
        losses += [record["total"] for record in records if record["split"] == "validation"]
    return Found(np.array(rates), np.array(losses))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", default="mlp")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--device", help="such as cuda or mps; by default what PyTorch finds")
    arguments = parser.parse_args()
    if arguments.steps < 10 or arguments.seeds < 2 or arguments.device == "cpu":
        parser.error("--steps must be at least 10, --seeds at least 2, and --device another than the CPU")

    data = load_idx_directory(arguments.data)
    gpu = arguments.device or str(torch.accelerator.current_accelerator(check_available=True) or "")
    seeds, others = range(arguments.seeds), range(arguments.seeds, 2 * arguments.seeds)
    rivals = {"cpu": ("cpu", seeds), gpu or "cpu, other seeds": (gpu or "cpu", seeds if gpu else others)}
    if not gpu:
        print("PyTorch finds no GPU here: other seeds on the CPU take its place, and show what noise is")
    print(f"{'':18} {'':5} {'steps/s':>8} {'loss':>9} {'+-':>7}  from the CPU's")
    worst = 0.0
    for precision in PRECISIONS:
        reference: Found | None = None
        for name, (device, mine) in rivals.items():
            found = trained(data, arguments.preset, arguments.steps, device, precision, mine)
            line = f"{name:18} {precision:5} {np.median(found.rates):8.1f} {found.losses.mean():9.3f}"
            line += f" {found.losses.std(ddof=1):7.3f}"
            if reference is not None:
                errors = found.errors_from(reference)
                worst = max(worst, abs(errors))
                line += f"  {(found.losses - reference.losses).mean():+.3f}, {abs(errors):.1f} standard errors"
            reference = reference or found
            print(line, flush=True)
    agree = worst <= FEW
    print("the same within noise" if agree else f"NOT the same: more than {FEW} standard errors apart")
    sys.exit(not agree)


if __name__ == "__main__":
    main()
