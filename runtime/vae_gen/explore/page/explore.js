// The page of `vae-gen explore`: where in the latent space one is, and what the server's model makes of it.

import { Lost, ask, model } from "./model.js";

const find = (selector, within = document) => within.querySelector(selector);

const { width, height, strip, sweep, latent_dim: count } = model;
const [low, high] = [sweep.at(0), sweep.at(-1)];
const cell = strip.width / sweep.length;

// Where one is: the latents, and the seed and index that they were drawn with, if they were and are as they were.
let here = { z: new Array(count).fill(0) };
let target = null; // a picture that was given: { file, swapped, pixels }, the last in base64

const shown = (value) => value.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "\u2212");
const fourDigits = (text) => (Number(text) < 1000 ? Number(text).toPrecision(4) : Number(text).toFixed(0));
const parsed = (text) => (text.trim() ? Number(text.trim().replace("\u2212", "-").replace(",", ".")) : NaN);

// --- The picture and the strips

const output = prepared(find("#output canvas"), width, height);

function prepared(canvas, columns, rows) {
  Object.assign(canvas, { width: columns, height: rows });
  return canvas.getContext("2d");
}

let doing = 0;
function busy(change) {
  doing += change;
  find("#output").ariaBusy = doing > 0;
}

const frame = () => new Promise(requestAnimationFrame);
let working = false;
let lost = false;
let made = {}; // what the picture shows: { z, target }
let moved = 0; // when the latents last changed
let pace = 25; // milliseconds that a strip takes

// Asks for what is out of date: one request at a time, of the newest latents, the picture before the strips.
async function work() {
  if (working || lost) return;
  working = true;
  busy(+1);
  try {
    for (;;) {
      const wanted = { z: here.z, target };
      const isMade = made.z === wanted.z && made.target === wanted.target;
      const stale = rows.filter((row) => row.stale && row.inView);
      if (isMade && !stale.length) break;
      // While latents move, the next picture waits for no more strips than can be had at once.
      const isMoving = performance.now() - moved < 200;
      const some = stale.slice(0, isMoving ? Math.floor(30 / pace) : Math.max(Math.floor(100 / pace), 1));
      if (!isMade || some.length) await askFor(wanted, some);
      await frame();
    }
  } catch (error) {
    report(error);
  } finally {
    working = false;
    busy(-1);
  }
}

async function askFor({ z, target }, some) {
  for (const row of some) row.stale = false;
  const begin = performance.now();
  try {
    const body = { z, dims: some.map((row) => row.dim), ...(target && { target: target.pixels }) };
    const response = await ask("pictures", { method: "POST", body: JSON.stringify(body) });
    const pixels = new Uint8ClampedArray(await response.arrayBuffer());
    const [area, stripArea] = [4 * width * height, 4 * strip.width * strip.height];
    output.putImageData(new ImageData(pixels.subarray(0, area), width, height), 0, 0);
    some.forEach((row, place) => {
      const start = area + place * stripArea;
      row.pictures = new ImageData(pixels.subarray(start, start + stripArea), strip.width, strip.height);
    });
    made = { z, target };
    find("#error").textContent = target ? fourDigits(response.headers.get("Squared-Error")) : "";
  } catch (error) {
    for (const row of some) row.stale = true;
    throw error;
  }
  if (some.length) pace = (pace + (performance.now() - begin) / some.length) / 2;
  for (const row of rows) if (row.inView) row.paint();
}

// --- A row for each latent

class Row {
  stale = true;
  inView = false;
  pictures = null; // of the strip
  pressed = null; // where and at which value the pointer went down

  constructor(dim) {
    this.dim = dim;
    this.element = find("template").content.firstElementChild.cloneNode(true);
    const [label, kl] = this.element.children;
    this.number = find(".number", this.element);
    this.strip = find(".strip", this.element);
    this.range = find("[type=range]", this.element);
    this.context = prepared(find("canvas", this.element), strip.width, strip.height);
    label.textContent = `z${dim}`;
    label.htmlFor = this.range.id = `z${dim}`;
    kl.textContent = model.latent_kl.length ? `KL ${model.latent_kl[dim].toFixed(2)} nats` : "";
    Object.assign(this.range, { min: low, max: high });
    this.number.setAttribute("aria-label", `Value of z${dim}`);
    this.range.addEventListener("input", () => this.move(this.range.valueAsNumber));
    this.range.addEventListener("change", () => this.keep());
    this.range.addEventListener("keydown", (event) => {
      if (["0", "Delete", "Backspace"].includes(event.key)) this.set(0);
    });
    this.range.addEventListener("dblclick", () => this.set(0));
    this.range.addEventListener("pointerdown", ({ clientX: x, clientY: y }) => {
      this.pressed = { x, y, before: here.z[dim] };
    });
    this.range.addEventListener("click", (event) => this.pressed && this.click(event));
    this.number.addEventListener("focus", () => this.number.select());
    this.number.addEventListener("change", () => {
      const value = parsed(this.number.value);
      if (Number.isFinite(value)) this.set(value);
      else this.show();
    });
  }

  move(value) {
    go({ z: here.z.with(this.dim, value) }, target);
  }

  keep() {
    keep(`z${this.dim}`); // moves of one latent after the other are one step back
  }

  set(value) {
    this.move(value);
    this.keep();
  }

  // A click on a picture, rather than a drag, means its very value.
  click({ clientX, clientY }) {
    const { x, y, before } = this.pressed;
    this.pressed = null; // a click on the label comes here too
    const isDrag = Math.hypot(clientX - x, clientY - y) > 3;
    if (isDrag || here.z[this.dim] === before) return; // the frame itself was clicked
    const { left, width: across } = this.range.getBoundingClientRect();
    const place = Math.floor(((x - left) / across) * sweep.length);
    this.set(sweep[Math.min(Math.max(place, 0), sweep.length - 1)]);
  }

  show() {
    const value = here.z[this.dim];
    this.range.value = value; // as near as it goes
    this.range.setAttribute("aria-valuetext", value.toFixed(2));
    this.number.value = shown(value);
    this.paint();
  }

  // The strip, and in the range's frame the picture as it is.
  paint() {
    this.strip.classList.toggle("stale", this.stale);
    const part = (Math.min(Math.max(here.z[this.dim], low), high) - low) / (high - low);
    const place = [part * (strip.width - cell), 0, cell, strip.height];
    if (this.pictures) this.context.putImageData(this.pictures, 0, 0);
    else this.context.reset();
    this.context.clearRect(...place);
    this.context.drawImage(output.canvas, ...place);
  }
}

const rows = here.z.map((_, dim) => new Row(dim));

// --- Going somewhere, and the address

// Shows these latents; `compared` is the picture that theirs is compared with.
function go(place, compared = null) {
  const changed = rows.filter(({ dim }) => place.z[dim] !== here.z[dim]);
  for (const row of rows) row.stale ||= changed.some((other) => other !== row);
  if (!lost) report();
  [here, target, moved] = [place, compared, performance.now()];
  for (const row of rows) row.show();
  const { z, seed, index } = here;
  find("#draw").classList.toggle("past", seed === undefined);
  if (seed !== undefined && !place.isTyped) {
    find("[name=seed]").value = seed;
    find("[name=index]").value = index;
  }
  const decode = `vae-gen decode ${model.options} --z "${z}"`;
  const sample = `vae-gen sample ${model.options} --seed ${seed} --start ${index}`;
  showCommand(`${seed === undefined ? decode : sample} --out picture.png`);
  find("#download").href = `picture.png?z=${z}`;
  for (const part of ["#input", "#output figcaption", "#swap"]) find(part).hidden = !target;
  return work();
}

// In lines that are broken between words, and within none but the latents.
function showCommand(text) {
  const words = text.split(" ").map((word) => {
    const part = Object.assign(document.createElement("span"), { textContent: word });
    part.classList.toggle("word", word.length < 40);
    return part;
  });
  find("code").replaceChildren(...words.flatMap((word) => [word, " "]).slice(0, -1));
}

// Puts where one is into the address. With the same `mark` as the last time, that is replaced.
function keep(mark = null) {
  const { z, seed, index } = here;
  const address = seed === undefined ? `#z=${z}` : `#seed=${seed}&index=${index}`;
  if (address === location.hash) return;
  const isSame = mark !== null && history.state === mark;
  history[isSame ? "replaceState" : "pushState"](mark, "", address);
}

// What the address says: latents, or a seed and an index; where it says neither, the first picture of seed 0.
async function read() {
  const address = new URLSearchParams(location.hash.slice(1));
  const text = address.get("z");
  if (text === null) return draw({ seed: address.get("seed") ?? "0", index: address.get("index") ?? "0" });
  const z = text.split(",").map(parsed);
  if (z.length === count && z.every(Number.isFinite)) return { z };
  throw new Error(`The address has z=${text}; this model takes ${count} numbers between commas.`);
}

const draw = (asked) => ask(`draw?${new URLSearchParams(asked)}`).then((response) => response.json());

// Goes where `finding` leads, unless something newer was asked for meanwhile.
let newest = 0;
async function follow(finding, compared = () => null, keeps = true) {
  const mine = ++newest;
  busy(+1);
  try {
    const place = await finding;
    if (mine !== newest) return;
    const arrived = go(place, compared(place));
    if (keeps) keep();
    await arrived;
  } catch (error) {
    if (mine !== newest) return;
    if (!made.z) go(here); // at the beginning
    report(error);
  } finally {
    busy(-1);
  }
}

find("#random").addEventListener("click", () => follow(draw({})));
find("#zero").addEventListener("click", () => follow({ z: new Array(count).fill(0) }));
find("#draw").addEventListener("change", () => find("#draw").requestSubmit());
find("#draw").addEventListener("submit", (event) => {
  event.preventDefault();
  const { seed, index } = event.target.elements;
  const asked = { seed: seed.value.trim() || "0", index: index.value.trim() || "0" };
  follow(draw(asked).then((place) => ({ ...place, isTyped: true }))); // and perhaps typed on meanwhile
});
addEventListener("popstate", () => follow(read(), undefined, false));

find("#copy").addEventListener("click", async ({ target: button }) => {
  await navigator.clipboard.writeText(find("code").textContent);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
});

// --- A picture of one's own

const input = prepared(find("#input canvas"), width, height);
const swap = find("#swap input");

async function encoded(file, swapped) {
  if (!model.encodes) throw new Error(`${model.name} is a decoder alone: it makes pictures, and takes none.`);
  if (file.size > model.most_upload) throw new Error(`${file.name} is larger than ${model.most_upload / 2 ** 20} MiB.`);
  const options = { method: "POST", body: file };
  const response = await ask(`encode?invert=${Number(swapped)}`, options).catch((error) => {
    throw error instanceof Lost ? error : new Error(`${file.name}: ${error.message}`);
  });
  return response.json();
}

async function look(file, swapped = false) {
  await follow(encoded(file, swapped), ({ pixels, better_swapped: isBetterSwapped }) => {
    const bytes = Uint8ClampedArray.from(atob(pixels), (character) => character.charCodeAt(0));
    input.putImageData(new ImageData(bytes, width, height), 0, 0);
    find("#hint").hidden = !isBetterSwapped;
    return { file, swapped, pixels };
  });
  swap.checked = target?.swapped; // it may have been refused
}

swap.addEventListener("change", () => look(target.file, swap.checked));
find("#choose").addEventListener("click", () => find("#file").click());
find("#file").addEventListener("change", ({ target: chosen }) => {
  if (chosen.files.length) look(chosen.files[0]);
  chosen.value = ""; // so that the same one can be chosen again
});
const dropping = (is) => document.body.classList.toggle("dropping", is);
addEventListener("dragover", (event) => {
  event.preventDefault();
  dropping(model.encodes && event.dataTransfer.types.includes("Files"));
});
addEventListener("dragleave", (event) => event.relatedTarget ?? dropping(false));
addEventListener("drop", (event) => {
  event.preventDefault();
  dropping(false);
  if (event.dataTransfer.files.length) look(event.dataTransfer.files[0]);
});
addEventListener("paste", ({ clipboardData }) => {
  if (clipboardData.files.length) look(clipboardData.files[0]);
});

// --- What is wrong

function report(error) {
  if (error instanceof Lost) return waitForServer();
  find("#message").textContent = error?.message ?? "";
}

async function waitForServer() {
  if (lost) return;
  lost = true;
  find("#message").textContent =
    "The server does not answer. This page goes on when vae-gen explore runs again, at the same address.";
  for (; lost; lost = await ask("model").then(() => false, () => true)) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  report();
  work();
}

// --- The beginning

const latents = count === 1 ? "1 latent" : `${count} latents`;
const about = [latents, `${width} × ${height} pixels`, model.colors, `licence ${model.licence}`];
document.title = `${model.name} · vae-gen explore`;
find("h1").textContent = model.name;
find("#about").textContent = about.join(" · ");
find("#download").download = `${model.name}.png`;
find("#low").textContent = String(low).replace("-", "\u2212");
find("#high").textContent = high;
find("#choose").hidden = !model.encodes;
find("#order").hidden = !model.latent_kl.length;
find("#order").addEventListener("change", ({ target: { value } }) => {
  const kl = ({ dim }) => (value === "kl" ? model.latent_kl[dim] : 0);
  find("ul").append(...rows.toSorted((a, b) => kl(b) - kl(a)).map(({ element }) => element));
});

const style = document.documentElement.style;
style.setProperty("--columns", width);
style.setProperty("--wide", Math.min(1, width / height));
style.setProperty("--cells", sweep.length);
document.body.classList.toggle("alpha", model.colors.endsWith("alpha"));
document.body.classList.toggle("large", width > 128);
document.body.classList.toggle("huge", width > 448);
document.body.classList.toggle("small", cell < 20);

const watch = new IntersectionObserver(
  (entries) => {
    for (const { target: element, isIntersecting } of entries) {
      rows.find((row) => row.element === element).inView = isIntersecting;
    }
    work();
  },
  { rootMargin: "100px" },
);
find("ul").append(...rows.map(({ element }) => element));
find("main").hidden = false;
await follow(read(), undefined, false);
for (const row of rows) watch.observe(row.element);
