"""Variants of a bundle: which there are, which go together, and how exact each must be."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import onnx
from vae_gen.errors import UsageError
from vae_gen.manifest import DECODER, Description
from vae_gen.reading import BYTES

from vae_gen_export.variants.conversions import with_byte_pixels, with_fixed_batch, with_half_weights
from vae_gen_export.variants.int8 import quantised


@dataclass(frozen=True)
class Tolerance:
    """What outputs may differ by, relative to the largest magnitude in the reference, or to 1 if that is larger."""

    largest: float
    mean: float

    def __add__(self, other: Tolerance) -> Tolerance:
        return Tolerance(self.largest + other.largest, self.mean + other.mean)


EXACT = Tolerance(1e-5, 1e-5)
# Where a decoder is steep, at the edge of a stroke, a small difference in a weight makes a large one in a pixel.
HALF = Tolerance(0.1, 1e-3)
INTEGERS = Tolerance(1.0, 0.03)
ROUNDED = Tolerance(0.5 / 255, 0.5 / 255)


@dataclass(frozen=True)
class Variant:
    """How graphs are to differ from those of their source. Raises UsageError when constructed with what cannot be."""

    precision: str = "fp32"  # of the stored weights: fp32 or fp16
    quantize: str | None = None  # the decoder: int8
    uint8: bool = False  # the decoder's output: uint8 [batch, H, W, C]
    batch: int | None = None  # in place of the free axis

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "fp16"):
            raise UsageError(f"precision is {self.precision!r}; it must be fp32 or fp16")
        if self.quantize not in (None, "int8"):
            raise UsageError(f"quantize is {self.quantize!r}; it must be int8")
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"batch is {self.batch}; it must be at least 1")
        if self.quantize and self.precision == "fp16":
            raise UsageError("--quantize int8 leaves no weights for --precision fp16; give one of them")
        if self.quantize and (self.batch or 1) > 1:
            raise UsageError(
                f"--batch {self.batch} does not go with --quantize int8, whose images would depend on their "
                "neighbours in a batch; leave it out, or give --batch 1"
            )

    @property
    def as_json(self) -> dict[str, Any]:
        """What is other than usual."""
        default = dataclasses.asdict(Variant())
        return {name: value for name, value in dataclasses.asdict(self).items() if value != default[name]}

    @property
    def runs_any_batch(self) -> bool:
        """Whether the graphs make floats [batch, ...] with independent rows, as those of other bundles do."""
        return not (self.quantize or self.uint8 or self.batch)

    def tolerance(self, output: str) -> Tolerance:
        """For `mean`, `log_var` or `image`."""
        allowed = EXACT
        if self.precision == "fp16":
            allowed += HALF
        if output == "image" and self.quantize:
            allowed += INTEGERS
        if output == "image" and self.uint8:
            allowed += ROUNDED
        return allowed

    def describe(self, plain: Description) -> Description:
        """What graphs say of themselves that are otherwise as `plain` says."""
        layout, value_range = ("NHWC", BYTES) if self.uint8 else (plain.layout, plain.value_range)
        rows_per_run = 1 if self.quantize else None
        return dataclasses.replace(plain, layout=layout, value_range=value_range, rows_per_run=rows_per_run)

    def extend(self, file: str, graph: onnx.ModelProto) -> onnx.ModelProto:
        """`graph`, which is to become `file`, with what it is to do besides; it can be simplified with that."""
        return with_byte_pixels(graph) if self.uint8 and file == DECODER else graph

    def convert(self, file: str, graph: onnx.ModelProto) -> onnx.ModelProto:
        """`graph`, extended and simplified, in the form that the file is to have."""
        if self.batch:  # before weights are cast: it may pad kernels
            graph = with_fixed_batch(graph, self.batch)
        if self.quantize and file == DECODER:
            graph = quantised(graph)
        if self.precision == "fp16":
            graph = with_half_weights(graph)
        return graph


AS_IS = Variant()
