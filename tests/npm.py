"""Node packages for tests and examples, by the standard library alone: node_modules, as `npm ci` makes it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def node() -> str | None:
    """The path of Node.js, where it has npm beside it."""
    return shutil.which("node") if shutil.which("npm") else None


def browser() -> str | None:
    """The path of a Chromium."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def pins(folder: Path) -> dict[str, str]:
    """The packages that the folder's package.json asks for, with their versions."""
    versions: dict[str, str] = json.loads((folder / "package.json").read_text())["dependencies"]
    return versions


def installed(folder: Path) -> bool:
    """Whether node_modules is there and as new as package-lock.json."""
    made = folder / "node_modules/.package-lock.json"
    return made.is_file() and made.stat().st_mtime >= (folder / "package-lock.json").stat().st_mtime


def install(folder: Path) -> None:
    """What a user of the folder does first."""
    if not installed(folder):
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
