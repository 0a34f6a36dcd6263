"""Make images with a variational autoencoder, from two ONNX graphs and without PyTorch.

import vae_gen

model = vae_gen.load("mnist")
images = model.sample(100, seed=1)  # float32 [100, 1, 28, 28] in [0, 1]
mean, log_var = model.encode(images)  # each float32 [100, 16]
images = model.decode(mean)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vae_gen.version import __version__

if TYPE_CHECKING:
    from vae_gen.errors import VaeGenError as VaeGenError
    from vae_gen.model import Model as Model
    from vae_gen.model import load as load

__all__ = ["Model", "VaeGenError", "__version__", "load"]

_HOMES = {"Model": "vae_gen.model", "load": "vae_gen.model", "VaeGenError": "vae_gen.errors"}


def __getattr__(name: str) -> Any:
    # Imported on first use: numpy and onnxruntime cost a fifth of a second that --help need not pay.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
