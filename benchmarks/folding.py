"""Images a second of a run's decoder, as traced and folded, in onnxruntime.

python benchmarks/folding.py runs/notebook [--threads 2] [--batch 256] [--rounds 5]

Both graphs take turns; compare them with each other, not with another run's.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from turns import images_per_second, medians_in_turns
from vae_gen.graph import Graph
from vae_gen_export.publish import publish
from vae_gen_export.sources.training_run import open_run

SECONDS = 1.0  # a round of one graph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    graphs, sizes = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, fold in (("as traced", False), ("folded", True)):
            bundle = Path(folder) / name
            manifest = publish(open_run(arguments.run), bundle, fold=fold)
            path = bundle / "decoder.onnx"
            graphs[name] = Graph(path, arguments.threads, rows_per_run=arguments.batch)
            sizes[name] = path.stat().st_size
    z = np.random.default_rng(0).standard_normal((arguments.batch, manifest.description.latent_dim), np.float32)
    measures = {
        name: partial(images_per_second, partial(graph.run, z), len(z), SECONDS) for name, graph in graphs.items()
    }
    rates = medians_in_turns(measures, arguments.rounds)
    for name, rate in rates.items():
        factor = rate / rates["as traced"]
        print(f"{name:10} {sizes[name] / 1000:10.0f} kB {rate:12,.0f} images/s  {factor:6.1f} times as traced")


if __name__ == "__main__":
    main()
