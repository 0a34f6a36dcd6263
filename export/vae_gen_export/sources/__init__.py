"""What a bundle is made from: graphs, what they must compute, and what is known of the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import onnx
from vae_gen.images import ImageShape
from vae_gen.manifest import DECODER, ENCODER

# What each file of a bundle takes and makes.
INPUT = {ENCODER: "image", DECODER: "z"}
OUTPUTS = {ENCODER: ("mean", "log_var"), DECODER: ("image",)}

Rows = npt.NDArray[np.float32]  # [batch, ...]
Exact = npt.NDArray[np.float64]  # the same


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model that can be exported. Its kinds say where the graphs come from."""

    reference_name: ClassVar[str]  # what the graphs are compared with, for people and in the manifest
    reference_key: ClassVar[str]

    latent_dim: int
    image_shape: ImageShape
    licence: str = "unspecified"
    training: dict[str, Any]  # what the manifest says of it
    metrics: dict[str, Any] = field(default_factory=dict)  # the same
    # As in Description: one number for each latent, or none where nobody measured.
    latent_mean: tuple[float, ...] = ()
    latent_std: tuple[float, ...] = ()
    latent_kl: tuple[float, ...] = ()
    made_from: dict[str, str] = field(default_factory=dict)  # of another bundle: which
    note: str = ""  # what whoever exports it should know

    def graph(self, file: str) -> onnx.ModelProto:
        """The graph that is to become `file`, encoder.onnx or decoder.onnx, with the one free axis `batch`."""
        raise NotImplementedError

    def reference(self, file: str, rows: Rows) -> dict[str, Exact]:
        """What `file` must compute from float32 `rows`, by the names of its outputs, as exactly as can be."""
        raise NotImplementedError

    def in_float32(self, file: str, rows: Rows) -> dict[str, Exact]:
        """The same, as the model that it is made from computes it in float32."""
        return self.reference(file, rows)
