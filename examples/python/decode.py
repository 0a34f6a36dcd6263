"""decoder.onnx and latents -> a PNG file, with numpy, onnxruntime and Pillow.

pip install numpy onnxruntime pillow
python decode.py ../../models/mnist/decoder.onnx digit.png              # from N(0, 1) noise
python decode.py ../../models/notebook/decoder.onnx digit.png "-1.0,1.0,0.1,0.3,-0.2,0.7,-0.5,-2.5"
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image

model, picture, *latents = sys.argv[1:]
decoder = onnxruntime.InferenceSession(model)
latent_dim = decoder.get_inputs()[0].shape[1]
z = latents[0].split(",") if latents else np.random.default_rng().standard_normal(latent_dim)
(image,) = decoder.run(["image"], {"z": np.array([z], np.float32)})[0]  # [channels, height, width] in [0, 1]
pixels = np.floor(image.clip(0, 1) * 255 + 0.5).astype(np.uint8)
Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(picture)
