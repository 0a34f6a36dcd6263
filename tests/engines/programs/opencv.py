"""OpenCV's DNN module, which gets the file as bytes in memory."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from protocol import THREADS, Run, serve


def load(model: Path, shape: tuple[int, ...], names: list[str]) -> Run:
    cv2.setNumThreads(THREADS)
    net = cv2.dnn.readNetFromONNX(np.frombuffer(model.read_bytes(), np.uint8))

    def run(rows):
        net.setInput(rows)
        return net.forward(names)

    return run


serve("OpenCV", "opencv-python-headless", load)
