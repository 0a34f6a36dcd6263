"""What tests of all packages share."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest

# Where several processes test side by side, PyTorch's threads do not wait for each other busily: beside one more busy
# process, tests of training took four times as long so. OpenMP reads this once, before PyTorch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

MODELS = Path(__file__).parent / "models"

# A job in the background ignores Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def mnist() -> Path:
    """The folder with MNIST's files: $VAE_GEN_DATA, or the user's cache."""
    candidates = [Path(os.environ["VAE_GEN_DATA"]).resolve()] if "VAE_GEN_DATA" in os.environ else []
    if importlib.util.find_spec("pooch"):
        from vae_gen_train.mnist import cache_folder

        candidates.append(cache_folder())
    for folder in candidates:
        if (folder / "t10k-images-idx3-ubyte.gz").is_file():
            return folder
    pytest.skip(f"MNIST is not in {' or '.join(map(str, candidates)) or '$VAE_GEN_DATA'}")


@pytest.fixture(autouse=True)
def cpu_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--device auto` is the CPU, in processes that tests start too: what they compare with was computed on one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if "torch" in sys.modules:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.fixture
def tiny() -> Path:
    """A bundle of 3 latents and 3x5x4 images; tests/models/generate.py says what it computes."""
    return MODELS / "tiny"


@pytest.fixture
def paths_of_python_3_14(monkeypatch: pytest.MonkeyPatch) -> None:
    """Path.exists and the like answer no where the system does not let them look, as they do from Python 3.14 on."""
    monkeypatch.setattr(Path, "exists", lambda path: os.path.exists(path))  # noqa: PLW0108, PTH110
    monkeypatch.setattr(Path, "is_file", lambda path: os.path.isfile(path))  # noqa: PLW0108, PTH113
    monkeypatch.setattr(Path, "is_dir", lambda path: os.path.isdir(path))  # noqa: PLW0108, PTH112


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
