"""PyTorch, from the graph by onnx2torch."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

# onnx2torch imports torchvision for two operators on boxes, and a torchvision has to match its torch's very build.
sys.modules["torchvision"] = torchvision = ModuleType("torchvision")
sys.modules["torchvision.ops"] = torchvision.ops = ModuleType("torchvision.ops")
torchvision.ops.roi_align = None

import onnx2torch  # noqa: E402
import torch  # noqa: E402
from protocol import THREADS, Run, serve  # noqa: E402


def load(model: Path, shape: tuple[int, ...], names: list[str]) -> Run:
    torch.set_num_threads(THREADS)
    module = onnx2torch.convert(str(model)).eval()

    @torch.inference_mode()
    def run(rows):
        outputs = module(torch.from_numpy(rows))
        return [output.numpy() for output in (outputs if isinstance(outputs, (tuple, list)) else [outputs])]

    return run


serve("PyTorch by onnx2torch", "onnx2torch", load)
