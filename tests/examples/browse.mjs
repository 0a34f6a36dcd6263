// Uses examples/web as a person would, in a headless Chromium, and prints what it saw as JSON.
//
//     node browse.mjs < {"browser": "/usr/bin/chromium", "page": "http://...", "models": {NAME: {"model": URL, "z": "..."}},
//                        "broken": {NAME: URL}}

import { chromium } from "playwright-core";
import { text } from "node:stream/consumers";

const { browser: executablePath, page: address, models, broken } = JSON.parse(await text(process.stdin));
const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"];
const browser = await chromium.launch({ executablePath, args });
const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
const complaints = []; // of pages that should have none
const hosts = new Set(); // that pages asked

async function open(url, said = []) {
  const page = await context.newPage();
  page.on("request", (request) => hosts.add(new URL(request.url()).host));
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(error.message));
  await page.goto(url);
  await ready(page);
  return page;
}

function ready(page) {
  return page.waitForFunction(() => document.querySelector("#message").textContent !== "Loading the model.");
}

// What the page shows: its latents, and the pixels as rows of red, green, blue and alpha.
const seen = (page) =>
  page.evaluate(() => {
    const canvas = document.querySelector("canvas");
    const { width, height } = canvas;
    const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const pixels = [...copy.getImageData(0, 0, width, height).data];
    const command = document.querySelector("code").textContent;
    return { width, height, pixels, command, hash: location.hash, title: document.title };
  });

async function keyboard(page) {
  const slider = (name) => page.getByRole("slider", { name, exact: true });
  const press = async (...keys) => {
    for (const key of keys) await page.keyboard.press(key);
    return { ...(await seen(page)), focus: await page.evaluate(() => document.activeElement.id) };
  };
  const steps = {};
  steps.random = await press("Tab", "Enter");
  steps.zero = await press("Tab", "Space");
  steps.right = await press("Tab", "ArrowRight");
  steps.end = await press("Tab", "End");
  steps.sliders = [];
  for (const name of ["z0", "z1", "z2"]) {
    const of = (attribute) => slider(name).getAttribute(attribute);
    const [min, max, spoken] = [await of("min"), await of("max"), await of("aria-valuetext")];
    const row = await page.locator("li", { has: slider(name) }).innerText();
    steps.sliders.push({ min, max, spoken, row: row.split(/\s*\n\s*/) });
  }
  await page.reload();
  await ready(page);
  steps.reloaded = await seen(page);
  return steps;
}

// A slider moved through a hundred places without a pause.
async function dragged(page) {
  await page.evaluate(() => {
    const slider = document.querySelector("#z1");
    for (let step = 0; step <= 100; step++) {
      slider.value = -1.5 + 0.02 * step;
      slider.dispatchEvent(new Event("input", { bubbles: true }));
    }
  });
  await page.waitForTimeout(100);
  return seen(page);
}

async function layout(page) {
  await page.locator("li").last().scrollIntoViewIfNeeded();
  return page.evaluate(() => {
    const canvas = document.querySelector("canvas");
    const { left, right, top, bottom, width, height } = canvas.getBoundingClientRect();
    const inside = left >= 0 && right <= innerWidth && top >= 0 && bottom <= innerHeight;
    const overflow = document.documentElement.scrollWidth - innerWidth;
    return { inside, overflow, horizontal: width / canvas.width, vertical: height / canvas.height };
  });
}

const report = { models: {}, layouts: {}, errors: {} };
for (const [name, { model, z }] of Object.entries(models)) {
  const page = await open(`${address}?model=${model}#z=${z}`, complaints);
  report.models[name] = await seen(page);
  if (name === "tiny") {
    report.keyboard = await keyboard(page);
    report.dragged = await dragged(page);
  }
  for (const width of [320, 640, 1000]) {
    await page.setViewportSize({ width, height: 700 });
    report.layouts[`${name} ${width}`] = await layout(page);
  }
  await page.close();
}
for (const [name, url] of Object.entries(broken)) {
  const page = await open(url);
  const message = await page.textContent("#message");
  report.errors[name] = { message, hidden: await page.locator("main").isHidden() };
  await page.close();
}
await browser.close();
console.log(JSON.stringify({ ...report, complaints, hosts: [...hosts] }));
