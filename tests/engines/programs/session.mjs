// A graph in onnxruntime-node or onnxruntime-web, which have one API; the latter runs this in a page.

// `rows` are { data, dims }. Returns the outputs by their names, as plain arrays, and the milliseconds that runs took,
// over so many seconds and after a tenth of them to warm up.
export async function runGraph(ort, model, options, rows, seconds) {
  const session = await ort.InferenceSession.create(model, options);
  const feeds = { [session.inputNames[0]]: new ort.Tensor("float32", Float32Array.from(rows.data), rows.dims) };
  const outputs = {};
  for (const [name, { data, dims }] of Object.entries(await session.run(feeds))) {
    outputs[name] = { data: Array.from(data), dims: [...dims] };
  }
  const times = [];
  const start = performance.now();
  for (let now = start; seconds > 0 && now < start + 1100 * seconds; now = performance.now()) {
    await session.run(feeds);
    if (now > start + 100 * seconds) times.push(performance.now() - now);
  }
  return { outputs, times };
}
