"""Where engines live: folders of packages that come before the interpreter's own, one for each requirements file, and
node_modules in folders of this repository.

    python -m tests.engines.environments

makes those that are missing, the former in $VAE_GEN_ENGINES or the user's cache. This file needs the standard library
alone.
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

from tests import npm

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MAKE = "python -m tests.engines.environments"


def root() -> Path:
    return Path(os.environ.get("VAE_GEN_ENGINES") or Path.home() / ".cache/vae-gen/engines").absolute()


def pins(file: Path) -> dict[str, str]:
    """Packages to versions, of a file that pins every one."""
    lines = [line.strip() for line in file.read_text().splitlines()]
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@dataclass(frozen=True)
class Interpreter:
    """The interpreter that runs the tests, with what `pip install -e '.[dev]' -c constraints.txt` gave it."""

    def pins(self) -> dict[str, str]:
        return pins(ROOT / "constraints.txt")

    def ready(self) -> bool:
        return True

    def make(self) -> None:
        pass

    def command(self, program: Path) -> list[str]:
        return [sys.executable, str(program)]

    def variables(self) -> dict[str, str]:
        """What a program needs in its environment."""
        return {}


@dataclass(frozen=True)
class Packages(Interpreter):
    """The same interpreter with what requirements/NAME.txt pins before its own packages.

    Another numpy or onnxruntime in there disturbs nobody else. Dependencies are not installed: the file lists what is
    needed and not here already. (pnnx, for one, would bring a second PyTorch, which its converter does not use.)
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
        return pins(self.requirements)

    def ready(self) -> bool:
        return self.folder.is_dir()

    def make(self) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as unfinished:
            target = Path(unfinished) / "packages"
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            options = ["--only-binary=:all:", "--no-compile", "--target", target, "--requirement", self.requirements]
            subprocess.run([*pip, *options], check=True)
            shutil.move(target, self.folder)

    def variables(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.folder)}

    def __str__(self) -> str:
        return f"{self.requirements.name}: to {self.folder}"


@dataclass(frozen=True)
class Node(Interpreter):
    """Node.js, with what the package.json of folders of this repository pin, and a browser where one is needed."""

    folders: tuple[str, ...]
    browser: bool = False

    def paths(self) -> list[Path]:
        return [ROOT / folder for folder in self.folders]

    def pins(self) -> dict[str, str]:
        return {package: version for path in self.paths() for package, version in npm.pins(path).items()}

    def ready(self) -> bool:
        programs = npm.node() and (npm.browser() or not self.browser)
        return bool(programs) and all(npm.installed(path) for path in self.paths())

    def make(self) -> None:
        if npm.node() is None:
            print("Node.js and npm are not here: left out")
            return
        for path in self.paths():
            npm.install(path)

    def command(self, program: Path) -> list[str]:
        return [npm.node() or "node", str(program)]

    def variables(self) -> dict[str, str]:
        return {"VAE_GEN_BROWSER": npm.browser() or ""}

    def __str__(self) -> str:
        return f"node_modules: to {', '.join(self.folders)}"


INTERPRETER = Interpreter()
ENGINES = Packages("engines")
OPENCV4 = Packages("opencv4")
OLDEST = Packages("oldest")
NODE = Node(("examples/node",))
BROWSER = Node(("examples/web", "tests"), browser=True)

if __name__ == "__main__":
    for environment in (ENGINES, OPENCV4, OLDEST, NODE, BROWSER):
        if not environment.ready():
            print(environment, flush=True)
            environment.make()
