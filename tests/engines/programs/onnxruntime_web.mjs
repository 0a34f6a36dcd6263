// onnxruntime-web: WebAssembly, in a headless Chromium ($VAE_GEN_BROWSER).

import { createReadStream } from "node:fs";
import { createServer } from "node:http";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

import { fileOf, serve, THREADS } from "./protocol.mjs";

const TYPES = { html: "text/html", mjs: "text/javascript", wasm: "application/wasm", onnx: "application/octet-stream" };
// Without these a page gets no memory that threads share.
const ISOLATION = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

const HERE = dirname(fileURLToPath(import.meta.url));
const LIBRARY = dirname(fileOf("web", "onnxruntime-web/dist/ort.wasm.bundle.min.mjs"));

// Serves an empty page, the library, session.mjs and the graph.
async function listen(model) {
  const server = createServer(({ url }, response) => {
    const name = basename(url);
    response.setHeader("Content-Type", TYPES[name.split(".").pop()] ?? "text/html");
    for (const [header, value] of Object.entries(ISOLATION)) response.setHeader(header, value);
    if (!name) return response.end("<!doctype html>");
    const path = name === "session.mjs" ? join(HERE, name) : name === "model.onnx" ? model : join(LIBRARY, name);
    return createReadStream(path).on("error", () => response.writeHead(404).end()).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

async function runInPage([rows, seconds, threads]) {
  const { runGraph } = await import("/session.mjs");
  const ort = await import("/ort.wasm.bundle.min.mjs");
  if (!crossOriginIsolated) throw new Error("the page may not have threads");
  ort.env.wasm.numThreads = threads;
  const model = await (await fetch("/model.onnx")).arrayBuffer();
  return runGraph(ort, model, { executionProviders: ["wasm"] }, rows, seconds);
}

await serve("onnxruntime-web", "web", async (model, rows, seconds) => {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"];
  const browser = await chromium.launch({ executablePath: process.env.VAE_GEN_BROWSER, args });
  const server = await listen(model);
  try {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    return await page.evaluate(runInPage, [{ ...rows, data: Array.from(rows.data) }, seconds, THREADS]);
  } finally {
    await browser.close();
    server.close();
  }
});
