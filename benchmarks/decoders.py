"""Images a second of several decoders in onnxruntime, beside the first.

python benchmarks/decoders.py bundles/notebook-relu models/mnist models/notebook [--threads 2] [--rounds 7]

Each decoder is tried with several numbers of rows a run, and its best is compared. All take turns, so that a machine
that is busy with other things is busy for each of them; compare them with each other, not with another run's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime
from vae_gen.manifest import DECODER

SECONDS = 0.5  # a round of one session
ROWS = (64, 512, 2048)


def open_decoder(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def images_per_second(session: onnxruntime.InferenceSession, z: np.ndarray) -> float:
    started, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < SECONDS:
        session.run(None, {"z": z})
        done += len(z)
    return done / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()

    random = np.random.default_rng(0)
    sessions, latents = {}, {}
    for bundle in arguments.bundles:
        for rows in ROWS:
            session = open_decoder(bundle / DECODER, arguments.threads)
            sessions[bundle, rows] = session
            latents[bundle, rows] = random.standard_normal((rows, session.get_inputs()[0].shape[1]), np.float32)
    rates: dict[tuple[Path, int], list[float]] = {key: [] for key in sessions}
    for number in range(arguments.rounds + 1):
        for key, session in sessions.items():
            rate = images_per_second(session, latents[key])
            if number:  # the first round warms up
                rates[key].append(rate)
    medians = {key: statistics.median(found) for key, found in rates.items()}
    first = max(medians[arguments.bundles[0], rows] for rows in ROWS)
    for (bundle, rows), rate in medians.items():
        size = (bundle / DECODER).stat().st_size / 1000
        print(f"{bundle!s:28} {size:8,.0f} kB  {rows:5} rows a run {rate:10,.0f} images/s  {rate / first:6.1f}")


if __name__ == "__main__":
    main()
