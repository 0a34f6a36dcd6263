"""Commands as they are shown to people, to be typed into their shell."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable


def quoted(word: object) -> str:
    """The word as an argument: as POSIX shells read it, or on Windows as cmd and PowerShell both do."""
    return joined([word])


def joined(words: Iterable[object]) -> str:
    """The words as one command."""
    texts = list(map(str, words))
    if os.name != "nt":
        return shlex.join(texts)
    from subprocess import list2cmdline

    return list2cmdline(texts)
