"""A stand-in for Windows, where nobody here has one: see sitecustomize.py."""

from __future__ import annotations

import os
from pathlib import Path

STANDIN = str(Path(__file__).parent)


def on_windows() -> dict[str, str]:
    """The environment of a process that is to meet what Windows is."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([STANDIN, *filter(None, [os.environ.get("PYTHONPATH")])])}
