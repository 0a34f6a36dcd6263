"""Commands as they are shown to people, to be typed into their shell."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable


def quoted(word: object) -> str:
    """The word as one argument, as POSIX shells read it.

    On Windows as cmd and PowerShell both do, but that cmd replaces %NAME% and PowerShell $NAME by variables.
    """
    text = str(word)
    if os.name != "nt":
        return shlex.quote(text)
    if re.fullmatch(r"[\w.:\\/=+-]+", text):
        return text
    # As programs there take their command line apart: backslashes count only before a quotation mark.
    inner = re.sub(r'(\\*)"', r"\1\1\"", text)
    return '"' + re.sub(r"(\\+)$", r"\1\1", inner) + '"'


def joined(words: Iterable[object]) -> str:
    """The words as one command."""
    return " ".join(map(quoted, words))
