"""decoder.onnx and latents -> a PNG file, with OpenCV's own engine, cv2.dnn.

pip install opencv-python-headless
python decode.py ../../models/mnist/decoder.onnx digit.png              # from N(0, 1) noise
python decode.py ../../models/notebook/decoder.onnx digit.png "-1.0,1.0,0.1,0.3,-0.2,0.7,-0.5,-2.5"

OpenCV 5 reads the decoders as they are. OpenCV 4 reads `mnist`, and any other that is more than a plain chain of
layers, once its batch axis is fixed:

pip install onnx onnxruntime
python -m onnxruntime.tools.make_dynamic_shape_fixed --dim_param batch --dim_value 1 decoder.onnx decoder-1.onnx
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

BLUE_FIRST = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}  # the order in which imwrite takes the channels

model, picture, *latents = sys.argv[1:]
if latents:
    z = latents[0].split(",")
else:
    manifest = json.loads((Path(model).parent / "manifest.json").read_text())
    z = np.random.default_rng().standard_normal(manifest["description"]["latent_dim"])
decoder = cv2.dnn.readNetFromONNX(model)
decoder.setInput(np.array([z], np.float32), "z")
(image,) = decoder.forward("image")  # [channels, height, width] in [0, 1]
pixels = np.floor(image.clip(0, 1) * 255 + 0.5).astype(np.uint8)
cv2.imwrite(picture, pixels[BLUE_FIRST[len(pixels)]].transpose(1, 2, 0))
