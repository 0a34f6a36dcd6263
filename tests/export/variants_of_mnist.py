"""What the tests of variants compare with: the default model's own images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import vae_gen

Z = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return vae_gen.load("mnist").decode(Z)


def decoder_size(folder: Path) -> int:
    return (folder / "decoder.onnx").stat().st_size
