// What programs of tests share that use a page as a person would: a headless Chromium, and what a page shows and says.

import { chromium } from "playwright-core";

export async function launched(executablePath) {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"];
  const browser = await chromium.launch({ executablePath, args });
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  return { browser, context };
}

// A page whose hosts and complaints are added to these.
export async function watched(context, hosts, complaints) {
  const page = await context.newPage();
  page.on("request", (request) => hosts.add(new URL(request.url()).host));
  page.on("console", (message) => complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  return page;
}

// A canvas as rows of red, green, blue and alpha.
export const pixels = (page, selector) =>
  page.locator(selector).evaluate((canvas) => {
    const { width, height } = canvas;
    const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    return { width, height, pixels: [...copy.getImageData(0, 0, width, height).data] };
  });

// Whether a canvas can be seen whole, how large its pixels are, and how much wider than the window the page is.
export const layout = (page, selector) =>
  page.locator(selector).evaluate((canvas) => {
    const { left, right, top, bottom, width, height } = canvas.getBoundingClientRect();
    const inside = left >= 0 && right <= innerWidth && top >= 0 && bottom <= innerHeight;
    const overflow = document.documentElement.scrollWidth - innerWidth;
    return { inside, overflow, horizontal: width / canvas.width, vertical: height / canvas.height };
  });
