"""`torchrun -m vae_gen_train` is `vae-gen train` in several processes; see distributed.py."""

from __future__ import annotations

import sys

from vae_gen.cli import entry_point

sys.argv.insert(1, "train")
entry_point()
