"""Export of trained networks as ONNX bundles. Needs `vae-gen[train]`."""
