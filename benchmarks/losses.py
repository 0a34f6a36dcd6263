"""The losses of a bundle on the MNIST test images, through the runtime alone.

python benchmarks/losses.py --data FOLDER_WITH_MNIST [--model notebook]

Means per image in nats, as the trainer defines them: the sum of squared errors with one draw from each posterior,
the KL divergence from the prior, and their sum; beside them the sum of squared errors from the posterior mean.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import vae_gen
from vae_gen.idx import read_idx
from vae_gen.images import to_float
from vae_gen.latents import draw
from vae_gen.metrics import kl_to_standard_normal, sum_of_squared_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="notebook")
    arguments = parser.parse_args()

    model = vae_gen.load(arguments.model)
    images = to_float(read_idx(arguments.data / "t10k-images-idx3-ubyte.gz")[:, None])
    mean, log_var = model.encode(images)
    noise = draw(seed=0, start=0, count=len(images), latent_dim=model.latent_dim)
    drawn = sum_of_squared_errors(model.decode(mean + np.exp(log_var / 2) * noise), images).mean()
    from_mean = sum_of_squared_errors(model.decode(mean), images).mean()
    kl = kl_to_standard_normal(mean, log_var).sum(1).mean()
    print(f"reconstruction {drawn:.3f}  kl {kl:.3f}  total {drawn + kl:.3f}  from the mean {from_mean:.3f}")


if __name__ == "__main__":
    main()
