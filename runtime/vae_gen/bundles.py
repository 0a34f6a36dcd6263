"""Which models ship, and where a model that was asked for lies."""

from __future__ import annotations

from pathlib import Path

from vae_gen.errors import BundleError, UsageError, did_you_mean
from vae_gen.files import is_there
from vae_gen.manifest import DECODER, MANIFEST

DEFAULT = "mnist"


def shipped_folder() -> Path:
    """Where the shipped bundles lie: inside the installed package, or at the top of a source tree."""
    installed = Path(__file__).parent / "models"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "models"


def shipped() -> dict[str, Path]:
    """The directories of the shipped bundles, by name."""
    return {path.parent.name: path.parent for path in sorted(shipped_folder().glob(f"*/{MANIFEST}"))}


def is_shadowed(model: str) -> bool:
    """Whether it names a model that ships, and in the current folder a bundle or a file too, which is not meant."""
    path = Path(model)
    return model in shipped() and (path.is_file() or (path / DECODER).exists())


def as_typed(path: Path) -> str:
    """What `find` and a command line take for the path, however it begins or a shipped model is called."""
    return f"./{path}" if str(path) in shipped() or str(path).startswith("-") else str(path)


def find(model: str | Path) -> Path:
    """A shipped bundle's directory by its name, or the bundle's directory or decoder file at that path.

    Text may be either, a Path is a path: Path("mnist") lies in the current folder.
    Raises BundleError, naming what ships and what was probably meant, if there is neither, UsageError if it is neither
    text nor a path.
    """
    if not isinstance(model, str | Path):
        raise UsageError(f"model is {model!r}; it must be the name of a shipped model or a path")
    if isinstance(model, str) and model in shipped():
        return shipped()[model]
    path = Path(model)
    try:
        if str(model) and is_there(path):
            return path
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}") from error
    known = ", ".join(shipped()) or "none"
    raise BundleError(
        f"there is no model {model!r}: it is neither the name of a shipped model ({known}) "
        f"nor the path of a bundle's directory or of a decoder.onnx{did_you_mean(str(model), shipped())}"
    )
