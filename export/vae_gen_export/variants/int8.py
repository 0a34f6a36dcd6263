"""A decoder in integers, and whether that is faster.

onnxruntime quantises weights beforehand and activations as they come, with a scale that it takes from all rows of a
run. An image would depend on its neighbours, so vae-gen runs such a graph one row at a time, and that is how its speed
is compared with the decoder in float32, which runs as many rows at a time as are fastest.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from vae_gen.errors import BundleError
from vae_gen.graph import Graph
from vae_gen.latents import draw
from vae_gen.model import load

from vae_gen_export.plain import clean
from vae_gen_export.silence import silence

ROUNDS, SECONDS = 3, 0.3  # of each graph in turn; the best round counts


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with dynamically quantised matrix products and convolutions.

    Weights have one scale for each column, and 7 of 8 bits: processors without VNNI add two products in 16 bits, and
    would round others than those that have it.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, silence():
        path = Path(folder) / "quantised.onnx"
        quantize_dynamic(model, path, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
        return clean(onnx.load(path))


@dataclass(frozen=True)
class Speeds:
    """Of a decoder in float32 and in int8, measured in turns, with all processors."""

    float32_images_per_second: float
    float32_rows_per_run: int
    int8_images_per_second: float  # one row a run
    float32_milliseconds_alone: float  # one row, run by itself
    int8_milliseconds_alone: float

    @property
    def text(self) -> str:
        return (
            f"int8: {self.int8_images_per_second:,.0f} images/s, one at a time; "
            f"float32: {self.float32_images_per_second:,.0f} images/s, {self.float32_rows_per_run} at a time. "
            f"One image alone: {self.int8_milliseconds_alone:.3f} ms and {self.float32_milliseconds_alone:.3f} ms"
        )

    def as_json(self) -> dict[str, Any]:
        return {**{name: float(f"{value:.3g}") for name, value in asdict(self).items()}, "text": self.text}


def compare(float32: Path, int8: Path) -> Speeds:
    """Run two decoders as `vae-gen sample` does. Raises BundleError, with both speeds, unless int8 is the faster."""
    models = [load(path) for path in (float32, int8)]
    rows = models[0].rows_per_run
    z = draw(0, 0, rows, models[0].latent_dim)
    alone = [Graph(path, models[0].threads, rows_per_run=1) for path in (float32, int8)]
    whole_rates = _rates(*(lambda model=model: model.decode_bytes(z) for model in models))
    alone_rates = _rates(*(lambda graph=graph: graph.run(z[:1]) for graph in alone))
    speeds = Speeds(whole_rates[0] * rows, rows, whole_rates[1] * rows, 1000 / alone_rates[0], 1000 / alone_rates[1])
    if speeds.int8_images_per_second <= speeds.float32_images_per_second:
        raise BundleError(f"this decoder is not faster in int8 on this machine, so nothing was written. {speeds.text}")
    return speeds


def _rates(*calls: Callable[[], object]) -> list[float]:
    """How often a second each can be called."""
    best = [0.0] * len(calls)
    for call in calls:
        call()
    for _ in range(ROUNDS):
        for number, call in enumerate(calls):
            begin, count = time.perf_counter(), 0
            while time.perf_counter() - begin < SECONDS:
                call()
                count += 1
            best[number] = max(best[number], count / (time.perf_counter() - begin))
    return best
