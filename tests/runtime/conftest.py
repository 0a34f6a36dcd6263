from __future__ import annotations

from pathlib import Path

import pytest
from vae_gen.containers import members

from tests.runtime.container_files import FakeEncoder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which data sets are kept, other than the user's."""
    monkeypatch.setenv("VAE_GEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for pictures."""
    path = tmp_path / "pictures"
    path.mkdir()
    return path


@pytest.fixture
def fake_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures in containers are the same few bytes each."""
    monkeypatch.setattr(members, "PngEncoder", FakeEncoder)
