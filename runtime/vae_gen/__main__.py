"""`python -m vae_gen` is `vae-gen`."""

from vae_gen.cli import entry_point

entry_point()
