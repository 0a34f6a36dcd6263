// onnxruntime-node: the native library, called from Node.js.

import { fileOf, serve, THREADS } from "./protocol.mjs";
import { runGraph } from "./session.mjs";

process.env.ORT_DISABLE_TELEMETRY ??= "1";
const { default: ort } = await import(fileOf("node", "onnxruntime-node/dist/index.js"));

const options = { intraOpNumThreads: THREADS };
await serve("onnxruntime-node", "node", (model, rows, seconds) => runGraph(ort, model, options, rows, seconds));
