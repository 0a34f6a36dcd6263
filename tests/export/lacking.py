"""A module that needs one that is nowhere."""

import nowhere  # type: ignore[import-not-found] # noqa: F401
