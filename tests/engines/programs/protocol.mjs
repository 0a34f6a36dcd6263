// What the JavaScript programs share: `PROGRAM REQUEST.json`, as tests/engines/engines.py says.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const THREADS = 2;

// A file of a package of examples/node or examples/web: nothing is installed twice.
export const fileOf = (example, path) =>
  fileURLToPath(new URL(`../../../examples/${example}/node_modules/${path}`, import.meta.url));

// Answers the request in the arguments. `run` takes the file of a graph, its input { data, dims } and the seconds to
// measure, and returns what session.mjs does.
export async function serve(engine, example, run) {
  const request = JSON.parse(readFileSync(process.argv[2], "utf8"));
  const { version } = JSON.parse(readFileSync(fileOf(example, `${engine}/package.json`), "utf8"));
  const rows = readArray(request.input);
  const { outputs, times } = await run(request.model, rows, request.seconds);
  for (const [name, array] of Object.entries(outputs)) writeArray(join(request.outputs, `${name}.npy`), array);
  const rate = times.length ? (1000 * rows.dims[0]) / Math.min(...times) : null;
  console.log(JSON.stringify({ engine, version, rows_per_second: rate }));
}

// The .npy format, version 1: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
function readArray(path) {
  const bytes = readFileSync(path);
  const start = 10 + bytes.readUInt16LE(8);
  const header = bytes.toString("latin1", 10, start);
  const [, sizes] = header.match(/^\{'descr': '<f4', 'fortran_order': False, 'shape': \((.*?),?\), \}/);
  return { data: new Float32Array(Uint8Array.from(bytes.subarray(start)).buffer), dims: sizes.split(",").map(Number) };
}

function writeArray(path, { data, dims }) {
  const header = `{'descr': '<f4', 'fortran_order': False, 'shape': (${dims.join(", ")},), }`.padEnd(117) + "\n";
  const start = Buffer.from([0x93, ...Buffer.from("NUMPY"), 1, 0, header.length, 0]);
  writeFileSync(path, Buffer.concat([start, Buffer.from(header), Buffer.from(Float32Array.from(data).buffer)]));
}
