"""What a CPU, a CUDA GPU and an Apple one want otherwise."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from vae_gen.images import ByteImages


def to_float(images: ByteImages, device: torch.device) -> Tensor:
    """uint8 [n, C, H, W] -> float32 in [0, 1] on `device`."""
    batch = torch.tensor(images)
    if device.type == "cuda":
        batch = batch.pin_memory()  # else the copy would wait until the GPU has done all that it was told
    batch = batch.to(device, non_blocking=copies_overlap(device))
    return batch.to(torch.float32, memory_format=memory_format(device)).div_(255)


def memory_format(device: torch.device) -> torch.memory_format:
    """How images and the weights of convolutions lie in memory on `device`.

    Channels last is as fast as the other layout on a CPU (benchmarks/train_step.py), and the models that ship were
    trained with it. On Apple's GPUs it is slow (PyTorch, #193349), and convolutions whose weights do not lie as their
    dimensions follow each other are wrong there (#192212).
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def copies_overlap(device: torch.device) -> bool:
    """Whether copies to `device` may go on while the CPU does. Apple's are then wrong (PyTorch, #189690)."""
    return device.type not in ("cpu", "mps")


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Within it matrix products and convolutions are computed with `precision`; weights and losses stay float32.

    fp32 is what PyTorch makes of it: on GPUs that have TF32, convolutions are computed in that.
    """
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
