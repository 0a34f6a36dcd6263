from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from vae_gen.data.datasets import DataSet, load_data_set

from tests.runtime.data_files import idx


def blobs(count: int, height: int, width: int, seed: int) -> np.ndarray:
    """Pictures that a small network can learn: a bright spot somewhere on black."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    centre = random.uniform(2, min(height, width) - 2, (count, 2, 1, 1))
    spot = np.exp(-((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2) / 4)
    return (spot * 255).astype(np.uint8)


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IDX files with MNIST's names: 120 training and 20 test images of 12x8."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "train-images-idx3-ubyte").write_bytes(idx(blobs(120, 12, 8, seed=1)))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(blobs(20, 12, 8, seed=2))))
    return folder


@pytest.fixture
def data(small_data: Path) -> DataSet:
    """The same files, read."""
    return load_data_set(small_data)


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn at the end, which takes longer than the steps."""
    monkeypatch.setattr("vae_gen_train.trainer.draw_report", lambda *arguments: None)
