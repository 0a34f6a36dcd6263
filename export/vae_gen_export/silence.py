"""What PyTorch's exporter and onnxruntime's quantiser warn of, log and print is for their makers."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def silence() -> Iterator[None]:
    """No warnings, no logging and nothing on stderr; what is raised is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
