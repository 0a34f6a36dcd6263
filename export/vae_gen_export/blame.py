"""What other people's code did wrong, in one line."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

SHOWN = 3  # of many names
LIBRARIES = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
LONGEST = 300  # characters of a message


def blame(error: BaseException) -> str:
    """The error's kind, its first line, and the last line of code outside libraries that it went through."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    text = f"{type(error).__name__}: {first[:LONGEST]}" if first else type(error).__name__
    ours = str(Path(__file__).parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).is_file() and not frame.filename.startswith((*LIBRARIES, ours)):
            return f"{text} ({Path(frame.filename).name}, line {frame.lineno})"
    return text


def listed(names: Iterable[str]) -> str:
    """The first few of many names."""
    known = list(names)
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return ", ".join(known[:SHOWN]) + more if known else "none"
