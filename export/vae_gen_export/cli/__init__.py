"""The commands that this package adds to vae-gen: one file each."""
