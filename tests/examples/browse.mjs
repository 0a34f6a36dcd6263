// Uses examples/web as a person would, in a headless Chromium, and prints what it saw as JSON.
//
//     node browse.mjs < {"browser": "/usr/bin/chromium", "page": "http://...", "models": {NAME: {"model": URL, "z": "..."}},
//                        "broken": {NAME: URL}}

import { text } from "node:stream/consumers";
import { launched, layout as layoutOf, pixels, watched } from "../browser.mjs";

const { browser: executablePath, page: address, models, broken } = JSON.parse(await text(process.stdin));
const { browser, context } = await launched(executablePath);
const complaints = []; // of pages that should have none
const hosts = new Set(); // that pages asked

async function open(url, said = []) {
  const page = await watched(context, hosts, said);
  await page.goto(url);
  await ready(page);
  return page;
}

function ready(page) {
  return page.waitForFunction(() => document.querySelector("#message").textContent !== "Loading the model.");
}

// What the page shows: its latents, and the pixels as rows of red, green, blue and alpha.
async function seen(page) {
  const command = await page.textContent("code");
  const { hash, title } = await page.evaluate(() => ({ hash: location.hash, title: document.title }));
  return { ...(await pixels(page, "canvas")), command, hash, title };
}

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
  return layoutOf(page, "canvas");
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
