"""The version of the whole distribution. Asking the installed metadata for it would cost 20 ms at every start."""

__version__ = "0.1.0"
