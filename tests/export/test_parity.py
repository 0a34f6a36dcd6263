"""What the gate allows: rounding, as much as it costs the network itself, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from vae_gen.errors import BundleError
from vae_gen.manifest import DECODER, ENCODER
from vae_gen_export.publish import publish
from vae_gen_export.sources.networks import Networks


class Steep(nn.Module):
    """An encoder whose means are differences of large numbers, `size` times as large as they are."""

    def __init__(self, size: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(20, 3), nn.Linear(3, 3)
        self.size = size

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.tanh(self.first(image.flatten(1)))
        return (features + self.size).sin() - features.sin(), self.second(features)


def source(encoder: nn.Module) -> Networks:
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(3, 20), nn.Sigmoid(), nn.Unflatten(1, (1, 5, 4)))
    parts = {ENCODER: encoder, DECODER: decoder}
    return Networks(parts=parts, latent_dim=3, image_shape=(1, 5, 4), training={})


def test_what_float32_costs_the_network_is_allowed(tmp_path: Path) -> None:
    manifest = publish(source(Steep(1000)), tmp_path / "steep")  # float32 has steps of 6e-5 there
    errors = manifest.export["parity_with_pytorch_float64"]
    assert 1e-5 < errors["mean"] < 1e-4
    assert errors["log_var"] < 1e-5


def test_what_is_more_than_rounding_is_not(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"mean differs from PyTorch by .*; at most 1e-05 is allowed\. .*--no-fold"):
        publish(source(Steep(30_000)), tmp_path / "steep")  # steps of 2e-3
    assert not list(tmp_path.iterdir())


def test_images_are_like_the_decoder_s_and_reach_every_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Seen(Networks):
        def reference(self, file: str, rows: np.ndarray) -> dict[str, np.ndarray]:
            seen.append((file, rows))
            return super().reference(file, rows)

    made = source(Steep(0))
    publish(Seen(parts=made.parts, latent_dim=3, image_shape=(1, 5, 4), training={}), tmp_path / "bundle")
    images = np.concatenate([rows for file, rows in seen if file == ENCODER])
    assert images.dtype == np.float32
    assert 0 < images.min() < images.max() < 1
    decoded = np.concatenate([rows for file, rows in seen if file == DECODER])
    assert abs(decoded.std() - 1) < 0.2  # latents
    values = images.reshape(len(images), -1)
    assert np.linalg.matrix_rank(values - values.mean(0)) == 20  # the decoder's alone lie near 3 dimensions
    shown = made.reference(DECODER, decoded)["image"].reshape(len(decoded), -1)
    nearest = np.abs(values[:, None] - shown).max(2).min(1)
    assert 0.01 < nearest.min() <= nearest.max() < 0.1
