"""Training of variational autoencoders in PyTorch. Needs `vae-gen[train]`."""
