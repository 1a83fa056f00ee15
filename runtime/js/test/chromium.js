/** Headless Chromium, driven over the WebDriver protocol (W3C) that its own driver speaks. */

import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Whether Chromium and its driver are installed. */
export const found = ["chromium", "chromedriver"].every(
  (name) => spawnSync("sh", ["-c", `command -v ${name}`]).status === 0,
);

// So that Chromium finds a GPU, which is a program.
export const SWIFTSHADER = [
  "--use-webgpu-adapter=swiftshader", "--enable-unsafe-webgpu", "--enable-features=Vulkan",
];

export class Chromium {
  /** @param {string[]} [flags] */
  static async start(flags = []) {
    const browser = new Chromium();
    const port = await freePort();
    browser.address = `http://127.0.0.1:${port}`;
    browser.profile = await mkdtemp(join(tmpdir(), "bareclip-chromium-"));
    browser.driver = spawn("chromedriver", [`--port=${port}`], { stdio: "ignore" });
    await until(() => fetch(`${browser.address}/status`).then((answer) => answer.ok, () => false));
    const args = [
      "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars",
      "--disable-background-networking", `--user-data-dir=${browser.profile}`, ...flags,
    ];
    const wanted = { "goog:chromeOptions": { args }, "goog:loggingPrefs": { browser: "ALL" } };
    const { sessionId } = await browser.ask("", { capabilities: { alwaysMatch: wanted } });
    browser.address += `/session/${sessionId}`;
    await browser.ask("/timeouts", { script: 240_000 });
    return browser;
  }

  async ask(path, body, method = "POST") {
    const base = path === "" ? `${this.address}/session` : this.address + path;
    const answer = await fetch(base, { method, body: body && JSON.stringify(body) });
    const { value } = await answer.json();
    if (!answer.ok) throw new Error(`${value.error}: ${value.message}`);
    return value;
  }

  /** Goes to an address. */
  async open(url) {
    await this.ask("/url", { url });
  }

  /** What a function makes of some arguments within the page; may be asynchronous. */
  async run(work, ...given) {
    const script = `const done = arguments[arguments.length - 1];
      (${work})(...arguments[0]).then((value) => done({ value }), (error) => done({ error: String(error) }));`;
    const { value, error } = await this.ask("/execute/async", { script, args: [given] });
    if (error) throw new Error(error);
    return value;
  }

  /** Sets what the page sees of a screen. */
  async size(width, height) {
    const params = { width, height, deviceScaleFactor: 1, mobile: width < 500 };
    await this.ask("/goog/cdp/execute", { cmd: "Emulation.setDeviceMetricsOverride", params });
  }

  /** What the console was told since this was last asked. */
  async complaints() {
    return (await this.ask("/se/log", { type: "browser" })).map(({ message }) => message);
  }

  async screenshot(file) {
    const params = { captureBeyondViewport: true };
    const { data } = await this.ask("/goog/cdp/execute", { cmd: "Page.captureScreenshot", params });
    await writeFile(file, Buffer.from(data, "base64"));
  }

  async close() {
    await fetch(this.address, { method: "DELETE" }).catch(() => {});
    const ended = new Promise((done) => this.driver.once("exit", done));
    this.driver.kill();
    await ended;
    await rm(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Waits until a condition holds. */
export async function until(condition, seconds = 60) {
  for (const end = Date.now() + 1000 * seconds; Date.now() < end; ) {
    if (await condition()) return;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error(`waited ${seconds} s for ${condition}`);
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((done) => server.once("listening", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}
