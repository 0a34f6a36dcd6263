// A slider for each latent of a decoder.onnx; index.html says how to serve it.

import * as ort from "onnxruntime-web";

const folder = new URLSearchParams(location.search).get("model") ?? "../../models/mnist";
const find = (selector) => document.querySelector(selector);

async function fetched(name) {
  const url = `${folder.replace(/\/$/, "")}/${name}`;
  const response = await fetch(url, { cache: "no-cache" }); // a decoder and a manifest of the same export
  if (!response.ok) throw new Error(`${url} is not there: the server says ${response.status} ${response.statusText}`);
  return response;
}

// What manifest.json says of the model: { name, latent_dim, image_shape, latent_mean, latent_std, latent_kl, ... }.
async function readDescription() {
  const response = await fetched("manifest.json");
  const { schema, description } = await response.json().catch((error) => {
    throw new Error(`${response.url} is not JSON: ${error.message}`);
  });
  if (schema !== 1) throw new Error(`${response.url} has schema version ${schema}; this page reads version 1`);
  return description;
}

// Throws unless the graph has the sizes that its manifest gives.
function checkSizes(decoder, { latent_dim, image_shape }) {
  const sizes = (metadata, name) => metadata.find((value) => value.name === name)?.shape?.slice(1).join(" x ");
  const found = [sizes(decoder.inputMetadata, "z"), sizes(decoder.outputMetadata, "image")];
  const expected = [String(latent_dim), image_shape.join(" x ")];
  if (found.join() !== expected.join()) {
    throw new Error(
      `manifest.json does not belong to decoder.onnx: it has ${expected[0]} latents and images of ${expected[1]}, ` +
        `the graph ${found[0]} and ${found[1]}`,
    );
  }
}

// A number from N(0, 1) with two decimals, as the sliders show it (Box and Muller).
function normal() {
  const value = Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  return Math.round(value * 100) / 100;
}

// Clip, times 255, round half up. An ImageData left to itself rounds half to even.
const toByte = (value) => Math.floor(Math.min(Math.max(value, 0), 1) * 255 + 0.5);

// float32 [1, channels, height, width] in [0, 1] -> what a canvas shows. There are 1, 3 or 4 channels.
function toImageData({ data, dims: [, channels, height, width] }) {
  const area = height * width;
  const picture = new ImageData(width, height);
  for (let pixel = 0; pixel < area; pixel++) {
    for (let color = 0; color < 4; color++) {
      const channel = channels === 1 && color < 3 ? 0 : color;
      picture.data[4 * pixel + color] = channel < channels ? toByte(data[channel * area + pixel]) : 255;
    }
  }
  return picture;
}

// One slider, over three standard deviations of what the encoder makes of images to each side of the mean.
function addSlider(index, { latent_mean, latent_std, latent_kl }, onInput) {
  const row = find("template").content.firstElementChild.cloneNode(true);
  const [label, kl, shown, input] = row.children;
  const [mean, std] = [latent_mean[index] ?? 0, latent_std[index] ?? 1];
  label.textContent = `z${index}`;
  label.htmlFor = input.id = `z${index}`;
  kl.textContent = latent_kl.length ? `KL ${latent_kl[index].toFixed(2)} nats` : "";
  input.min = Math.floor((mean - 3 * std) * 10) / 10;
  input.max = Math.ceil((mean + 3 * std) * 10) / 10;
  input.addEventListener("input", () => onInput(input.valueAsNumber));
  find("ul").append(row);
  return (value) => {
    input.value = value; // as near as it goes; a draw may lie beyond the ends
    shown.textContent = value.toFixed(2).replace("-", "\u2212");
    input.setAttribute("aria-valuetext", value.toFixed(2));
  };
}

// The latents in the address, as in #z=0.35,-1.2: a reload or a link keeps them. All 0 where it has none.
function readAddress(latentDim) {
  const text = new URLSearchParams(location.hash.slice(1)).get("z");
  const z = text === null ? new Array(latentDim).fill(0) : text.split(",").map(Number);
  if (z.length === latentDim && z.every(Number.isFinite)) return z;
  throw new Error(`The address has z=${text}; this model takes ${latentDim} numbers between commas`);
}

async function start() {
  const description = await readDescription();
  const decoder = await ort.InferenceSession.create(await (await fetched("decoder.onnx")).arrayBuffer());
  checkSizes(decoder, description);

  const { name, licence, latent_dim, image_shape } = description;
  const [channels, height, width] = image_shape;
  const colors = { 1: "grey", 3: "colour", 4: "colour and alpha" }[channels];
  document.title = find("h1").textContent = name;
  find("#about").textContent = `${latent_dim} latents, ${width} × ${height} pixels, ${colors}. Licence: ${licence}.`;
  const canvas = Object.assign(find("canvas"), { width, height });
  const context = canvas.getContext("2d");
  find("#view").style.setProperty("--columns", width);
  find("#view").style.setProperty("--rows", height);

  let z = readAddress(latent_dim);
  const sliders = z.map((_, index) => addSlider(index, description, (value) => show(z.with(index, value))));

  let running = false;
  let stale = false;
  async function redraw() {
    stale = true;
    if (running) return; // and be drawn next: one run at a time, of the newest latents
    running = true;
    try {
      while (stale) {
        stale = false;
        const { image } = await decoder.run({ z: new ort.Tensor("float32", z, [1, latent_dim]) });
        context.putImageData(toImageData(image), 0, 0);
      }
    } finally {
      running = false;
    }
  }

  function show(latents) {
    z = latents;
    sliders.forEach((slide, index) => slide(z[index]));
    find("code").textContent = `vae-gen decode --model ${name} --z "${z}" --out picture.png`;
    return redraw().catch(report);
  }
  const keep = () => history.replaceState(null, "", `#z=${z}`); // not on every input: browsers limit how often

  find("ul").addEventListener("change", keep);
  find("#random").addEventListener("click", () => show(z.map(normal)).then(keep));
  find("#zero").addEventListener("click", () => show(z.map(() => 0)).then(keep));

  await show(z);
  find("#message").textContent = "";
  find("main").hidden = false;
}

function report(error) {
  console.error(error);
  find("#message").textContent = error.message;
  find("#message").className = "error";
}

addEventListener("hashchange", () => location.reload());
start().catch(report);
