// Uses the page of `vae-gen explore` as a person would, in a headless Chromium, and prints what it saw as JSON.
//
//     node browse.mjs < {"browser": "/usr/bin/chromium", "sites": {"tiny": "http://...", ...}, "picture": PATH}

import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { launched, layout, pixels, watched } from "../browser.mjs";

const { browser: executablePath, sites, picture } = JSON.parse(await text(process.stdin));
const { browser, context } = await launched(executablePath);
await context.grantPermissions(["clipboard-read", "clipboard-write"]);
const complaints = []; // of pages that should have none
const hosts = new Set(); // that pages asked

async function open(url, said = complaints) {
  const page = await watched(context, hosts, said);
  await page.goto(url);
  await settled(page);
  return page;
}

// Until nothing that is in view is out of date.
async function settled(page) {
  await page.waitForTimeout(30); // what an event has put off
  await page.waitForFunction(() => document.querySelector("#output")?.ariaBusy === "false");
}

async function seen(page) {
  await settled(page);
  const rest = await page.evaluate(() => {
    const parts = ["#input", "#choose", "#order", "#swap", "#hint", "main"];
    const texts = (selector) => [...document.querySelectorAll(selector)].map((each) => each.textContent);
    const values = (selector) => [...document.querySelectorAll(selector)].map((each) => each.value);
    const isShown = (selector) => document.querySelector(selector).checkVisibility();
    return {
      hash: location.hash,
      title: document.title,
      about: texts("#about")[0],
      command: texts("code")[0],
      message: texts("#message")[0],
      swap: document.querySelector("#swap input").checked,
      error: texts("#error")[0],
      labels: texts("li label"),
      kl: texts("li small"),
      numbers: values(".number"),
      sliders: values("[type=range]"),
      drawn: values("#draw input"),
      focus: document.activeElement.id,
      shown: Object.fromEntries(parts.map((each) => [each, isShown(each)])),
    };
  });
  return { ...(await pixels(page, "#output canvas")), ...rest };
}

// Where the middle of a strip's picture is, on the screen.
async function place(page, dim, number) {
  const { x, y, width, height } = await page.locator(`#z${dim}`).boundingBox();
  return [x + (width * (number + 0.5)) / 7, y + height / 2];
}

async function dropped(page, content, name) {
  await page.evaluate(
    ([bytes, name]) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([new Uint8Array(bytes)], name));
      const event = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
      document.querySelector("main").dispatchEvent(event);
    },
    [[...content], name],
  );
}

async function explore(page) {
  const steps = {};
  const step = async (name, ...actions) => {
    for (const action of actions) await action();
    steps[name] = await seen(page);
  };
  await step("begin");
  const strips = async () => {
    const each = [];
    for (const dim of [0, 1, 2]) each.push(await pixels(page, `li:has(#z${dim}) canvas`));
    return each;
  };
  steps.begin.strips = await strips();
  await step("zero", () => page.click("#zero"));
  await step("clicked", async () => page.mouse.click(...(await place(page, 1, 5.3)))); // beside its middle
  await step("dragged", async () => {
    await page.mouse.move(...(await place(page, 0, 3)));
    await page.mouse.down();
    await page.mouse.move(...(await place(page, 0, 1)), { steps: 20 });
    await page.mouse.up();
  });
  const type = (selector, text, key) => async () => {
    await page.fill(selector, text);
    await page.keyboard.press(key);
  };
  await step("typed", type("li:has(#z2) .number", "-1.23456", "Enter"));
  steps.typed.strips = await strips();
  await step("nonsense", type("li:has(#z2) .number", "x", "Enter"));
  await step("beyond", type("li:has(#z2) .number", "4,5", "Tab"));
  await step("reloaded", () => page.reload());
  await step("key", () => page.focus("#z2"), () => page.keyboard.press("0"));
  await step("arrows", () => page.keyboard.press("ArrowRight"), () => page.keyboard.press("ArrowRight"));
  await step("back", () => page.goBack());
  await step("forward", () => page.goForward());
  await step("doubleClicked", async () => page.mouse.dblclick(...(await place(page, 1, 6))));
  await step("drawn", () => page.fill("[name=seed]", "5"), type("[name=index]", "7", "Enter"));
  await step("reloadedDraw", () => page.reload());
  await step("random", () => page.focus("#random"), () => page.keyboard.press("Enter"));
  await step("badSeed", type("[name=seed]", "x", "Enter"));
  await step("fast", () =>
    page.evaluate(() => {
      const slider = document.querySelector("#z1");
      for (let step = 0; step <= 100; step++) {
        slider.value = -1.5 + 0.02 * step;
        slider.dispatchEvent(new Event("input", { bubbles: true }));
      }
    }),
  );
  await page.click("#copy");
  steps.copied = await page.evaluate(() => navigator.clipboard.readText());
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
  steps.saved = { name: download.suggestedFilename(), content: [...(await readFile(await download.path()))] };

  await step("given", () => page.setInputFiles("#file", picture));
  steps.input = await pixels(page, "#input canvas");
  await step("swapped", () => page.check("#swap input"));
  await step("moved", () => page.focus("#z0"), () => page.keyboard.press("Home"));
  await step("refused", () => dropped(page, Buffer.from("some text"), "notes.txt"));
  await step("droppedToo", async () => dropped(page, await readFile(picture), "picture.png"));
  await step("left", () => page.click("#zero"));
  await context.setOffline(true);
  await step("offline", () => page.click("#random"), () => page.waitForSelector("#message:not(:empty)"));
  await context.setOffline(false);
  await page.waitForSelector("#message:empty", { state: "attached" });
  await step("online", () => page.click("#random"));
  await page.evaluate(() => (window.isOld = true));
  await page.route("**/draw?", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, headers: { ...response.headers(), model: "another" } });
  });
  await Promise.all([page.waitForEvent("load"), page.click("#random")]);
  await page.unroute("**/draw?");
  await step("anotherModel");
  steps.isOld = await page.evaluate(() => window.isOld);
  return steps;
}

const report = { layouts: {}, addresses: {} };
const page = await open(sites.tiny, (report.said = []));
report.tiny = await explore(page);
await page.close();
for (const [name, url] of Object.entries(sites)) {
  const page = await open(url);
  report[name] ??= await seen(page);
  for (const width of [320, 640, 1000, 1500]) {
    await page.setViewportSize({ width, height: 700 });
    await page.evaluate(() => scrollTo(0, 0));
    report.layouts[`${name} ${width}`] = await layout(page, "#output canvas");
  }
  if (name === "bare") {
    await dropped(page, await readFile(picture), "picture.png");
    report.bareDropped = await seen(page);
  }
  if (name === "mnist") {
    await page.selectOption("#order select", "kl");
    report.byKl = await seen(page);
  }
  await page.close();
}
for (const hash of ["#z=1,2", "#z=1,2,x", "#seed=-1"]) {
  const page = await open(sites.tiny + hash, []);
  report.addresses[hash] = await seen(page);
  await page.close();
}
await browser.close();
console.log(JSON.stringify({ ...report, complaints, hosts: [...hosts] }));
