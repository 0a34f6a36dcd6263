"""What not every system can do: marks for the tests that need it."""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest


def _makes_links() -> bool:
    """Whether this process may make links: on Windows few may."""
    with tempfile.TemporaryDirectory() as folder, suppress(OSError):
        Path(folder, "link").symlink_to("nowhere")
        return Path(folder, "link").is_symlink()
    return False


needs_links = pytest.mark.skipif(sys.platform == "win32" and not _makes_links(), reason="nobody may make links here")
needs_names_too_long = pytest.mark.skipif(
    sys.platform == "win32", reason="a name that is too long is there like any that no file has"
)
needs_names_without_text = pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="signals work otherwise there")
