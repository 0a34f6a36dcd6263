// decoder.onnx and latents -> a PNG file, with onnxruntime-node and pngjs.
//
// npm ci
// node decode.mjs ../../models/mnist/decoder.onnx digit.png              # from N(0, 1) noise
// node decode.mjs ../../models/notebook/decoder.onnx digit.png "-1.0,1.0,0.1,0.3,-0.2,0.7,-0.5,-2.5"
//
// .npmrc has ignore-scripts=true: onnxruntime-node brings its CPU library along, and what its install script would
// download is for CUDA. In a project of your own, ONNXRUNTIME_NODE_INSTALL=skip does the same for that package alone.

import { writeFileSync } from "node:fs";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { PNG } from "pngjs";

const COLOR_TYPES = { 1: 0, 3: 2, 4: 6 }; // PNG's numbers for grey, colour, and colour with alpha

const noise = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());

const [model, picture, latents] = process.argv.slice(2);
const decoder = await InferenceSession.create(model);
const latentDim = decoder.inputMetadata[0].shape[1];
const z = latents ? latents.split(",").map(Number) : Array.from({ length: latentDim }, noise);
const { image } = await decoder.run({ z: new Tensor("float32", z, [1, z.length]) });

// [1, channels, height, width] in [0, 1] -> bytes, the channels of a pixel side by side.
const [, channels, height, width] = image.dims;
const area = height * width;
const data = Buffer.alloc(area * channels);
for (let channel = 0; channel < channels; channel++) {
  for (let pixel = 0; pixel < area; pixel++) {
    const value = Math.min(Math.max(image.data[channel * area + pixel], 0), 1);
    data[pixel * channels + channel] = Math.floor(value * 255 + 0.5);
  }
}
const colorType = COLOR_TYPES[channels];
const options = { colorType, inputColorType: colorType, inputHasAlpha: channels === 4 };
writeFileSync(picture, PNG.sync.write({ width, height, data }, options));
