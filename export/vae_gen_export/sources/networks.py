"""PyTorch networks as the source of a bundle, wherever they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx
import torch
from torch import Tensor, nn

from vae_gen_export.graphs import trace
from vae_gen_export.sources import INPUT, OUTPUTS, Exact, Rows, Source


@dataclass(frozen=True, kw_only=True, eq=False)
class Networks(Source):
    """An encoder, image [batch, C, H, W] in [0, 1] -> (mean, log_var), and a decoder, z -> image, or that alone."""

    reference_name: ClassVar[str] = "PyTorch"
    reference_key: ClassVar[str] = "pytorch_float64"

    parts: dict[str, nn.Module]  # by the name of the file that each is to become

    def graph(self, file: str) -> onnx.ModelProto:
        sizes = {"image": self.image_shape, "z": (self.latent_dim,)}
        # From [0, 1] as an image is; to a decoder they are latents as good as others.
        example = torch.rand(2, *sizes[INPUT[file]])
        return trace(self.parts[file].cpu().eval().float(), example, INPUT[file], OUTPUTS[file])

    def reference(self, file: str, rows: Rows) -> dict[str, Exact]:
        return self._computed(file, rows, torch.float64)

    def in_float32(self, file: str, rows: Rows) -> dict[str, Exact]:
        return self._computed(file, rows, torch.float32)

    def _computed(self, file: str, rows: Rows, kind: torch.dtype) -> dict[str, Exact]:
        network = self.parts[file].cpu().eval().to(kind)
        with torch.inference_mode():
            found = network(torch.from_numpy(rows).to(kind))
        outputs = (found,) if isinstance(found, Tensor) else found
        return {name: output.double().numpy() for name, output in zip(OUTPUTS[file], outputs, strict=True)}
