"""Where engines live: folders of packages that come before the interpreter's own, one for each requirements file.

    python -m tests.engines.environments

makes those that are missing, in $VAE_GEN_ENGINES or the user's cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
MAKE = "python -m tests.engines.environments"


def root() -> Path:
    return Path(os.environ.get("VAE_GEN_ENGINES") or Path.home() / ".cache/vae-gen/engines").absolute()


@dataclass(frozen=True)
class PythonPackages:
    """What requirements/NAME.txt lists, without dependencies: it names all that is needed and not here already.

    Nothing is put on the interpreter's own path: another numpy or onnxruntime disturbs nobody else.
    """

    name: str

    @property
    def requirements(self) -> Path:
        return HERE / "requirements" / f"{self.name}.txt"

    @property
    def folder(self) -> Path:
        """Named after what is in it, so that a folder made for other versions is never taken."""
        content = hashlib.sha256(self.requirements.read_bytes()).hexdigest()[:12]
        return root() / f"{self.name}-{sys.implementation.cache_tag}-{content}"

    def pins(self) -> dict[str, str]:
        """Packages to versions."""
        lines = self.requirements.read_text().splitlines()
        return dict(line.split("==") for line in lines if line and not line.startswith("#"))

    def ready(self) -> bool:
        return self.folder.is_dir()

    def make(self) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as unfinished:
            target = Path(unfinished) / "packages"
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
            subprocess.run([*pip, "--target", target, "--requirement", self.requirements], check=True)
            shutil.move(target, self.folder)

    def command(self, program: Path) -> list[str]:
        return [sys.executable, str(program)]

    def variables(self) -> dict[str, str]:
        """What a program needs in its environment."""
        return {"PYTHONPATH": str(self.folder)}


@dataclass(frozen=True)
class Interpreter:
    """The interpreter that runs the tests, with what `pip install -e '.[dev]' -c constraints.txt` gave it."""

    def pins(self) -> dict[str, str]:
        lines = (HERE.parents[1] / "constraints.txt").read_text().splitlines()
        return dict(line.split("==") for line in lines if line and not line.startswith("#"))

    def ready(self) -> bool:
        return True

    def make(self) -> None:
        pass

    def command(self, program: Path) -> list[str]:
        return [sys.executable, str(program)]

    def variables(self) -> dict[str, str]:
        return {}


Environment = Interpreter | PythonPackages

if __name__ == "__main__":
    from tests.engines.engines import ENGINES

    for environment in dict.fromkeys(engine.environment for engine in ENGINES):
        if not environment.ready():
            print(f"{environment}: being made in {root()}", flush=True)
            environment.make()
