"""Images a second of several decoders in onnxruntime, beside the first.

python benchmarks/decoders.py bundles/notebook-relu models/mnist models/notebook [--threads 2] [--rounds 7]

Each decoder is tried with several numbers of rows a run, and its best is compared. All take turns, so that a machine
that is busy with other things is busy for each of them; compare them with each other, not with another run's.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from turns import images_per_second, medians_in_turns
from vae_gen.manifest import DECODER

SECONDS = 0.5  # a round of one session
ROWS = (64, 512, 2048)


def open_decoder(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()

    random = np.random.default_rng(0)
    measures = {}
    for bundle in arguments.bundles:
        for rows in ROWS:
            session = open_decoder(bundle / DECODER, arguments.threads)
            z = random.standard_normal((rows, session.get_inputs()[0].shape[1]), np.float32)
            make = partial(session.run, None, {"z": z})
            measures[bundle, rows] = partial(images_per_second, make, rows, SECONDS)
    rates = medians_in_turns(measures, arguments.rounds)
    first = max(rates[arguments.bundles[0], rows] for rows in ROWS)
    for (bundle, rows), rate in rates.items():
        size = (bundle / DECODER).stat().st_size / 1000
        print(f"{bundle!s:28} {size:8,.0f} kB  {rows:5} rows a run {rate:10,.0f} images/s  {rate / first:6.1f}")


if __name__ == "__main__":
    main()
