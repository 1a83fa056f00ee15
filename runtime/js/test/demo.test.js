import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { build, downloaded } from "../demo/build.js";
import { Chromium, found, until } from "./chromium.js";
import { serve } from "./server.js";

const skip = found ? false : "Chromium is not installed";

test("the page classifies and searches, on a phone's width too", { skip }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "bareclip-js-"));
  build(folder);
  // Node's zlib makes 3.77 MB where gzip -9 makes 3.74.
  assert.ok(downloaded(folder) <= 3.8e6, `${downloaded(folder)} bytes`);
  const server = await serve({ "": folder });
  const browser = await Chromium.start();
  t.after(async () => {
    await browser.close();
    server.close();
    rmSync(folder, { recursive: true });
  });
  const shown = (selector) =>
    browser.run(async (selector) => [...document.querySelectorAll(selector)].map((one) => one.textContent), selector);
  const does = (work, ...given) => browser.run(work, ...given);
  await browser.size(390, 844);
  await browser.open(`${server.url}/`);
  await until(async () => (await shown("#bars .name"))[0] === "dog");
  assert.match((await shown("#loading-text"))[0], /^The model is ready, at fp32 on \d threads?\.$/);

  await does(async () => document.querySelector("#samples button[type=button]").click());
  await until(async () => (await shown("#bars .name"))[0] === "cat");
  await does(async () => {
    const labels = document.getElementById("labels");
    labels.value = "house\ncat , house";
    labels.dispatchEvent(new Event("input"));
  });
  await until(async () => (await shown("#bars .name")).join() === "cat,house");

  await does(async () => {
    const picked = new DataTransfer();
    const cat = await (await fetch("samples/fish.png")).blob();
    picked.items.add(new File([cat], "my fish.png", { type: "image/png" }));
    picked.items.add(new File(["no picture"], "bad.png", { type: "image/png" }));
    const input = document.getElementById("album");
    input.files = picked.files;
    input.dispatchEvent(new Event("change"));
  });
  await until(async () => (await shown("#search-status"))[0].includes("bad.png"));
  await does(async () => document.getElementById("add-samples").click());
  await until(async () => (await shown("#hits li")).length === 13);
  assert.match((await shown("#hits .name"))[0], /sunset/);
  await does(async () => {
    document.getElementById("query").value = "a fish";
    document.querySelector("#search button").click();
  });
  await until(async () => (await shown("#hits .name"))[0].includes("fish"));
  for (const width of [390, 1280]) {
    await browser.size(width, 900);
    const [content, screen] = await does(async () => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(content <= screen, `${content} on ${screen}`);
  }
  const nameless = await does(async () =>
    [...document.querySelectorAll("button, input, textarea, img")].filter(
      (one) => !(one.textContent.trim() || one.labels?.length || one.alt || one.ariaLabel || one.querySelector("img")?.alt),
    ).map((one) => one.outerHTML),
  );
  assert.deepEqual(nameless.filter((one) => !one.includes("hidden")), []);
  assert.deepEqual(await browser.complaints(), []);
});
