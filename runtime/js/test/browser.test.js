import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Chromium, SWIFTSHADER, found } from "./chromium.js";
import { PICTURES, checkRarer, checkVectors, compared, difference, expected, names, rarer } from "./expected.js";
import { serve } from "./server.js";

const JS = join(import.meta.dirname, "..");
const skip = found ? false : "Chromium is not installed";
// Where Chromium's decoder rounds otherwise than Pillow does: grey of 16 bits is cut, not rounded,
// and AVIF with transparency spreads its colours over pixels in another way.
// What inks a picture has no browser tells.
const ROUNDED = { "deep-grey.png": 1, "alpha.avif": 24, "profile-cmyk.jpg": 16 };
const convert = "which this browser does not read, or a damaged one: convert it to PNG";
const REFUSED = {
  jp2: `a JPEG 2000, ${convert}`,
  ppm: `a PPM, ${convert}`,
  psd: `a Photoshop document, ${convert}`,
  tga: "in no image format that this browser reads",
  tiff: `a TIFF, ${convert}`,
};

let server;
let browser;

/** A page with `bareclip` in it. */
async function opened(url, flags) {
  const made = await Chromium.start(flags);
  await made.open(`${url}/js/test/page.html`);
  await made.run(async () => {
    while (!window.bareclip) await new Promise((done) => setTimeout(done, 20));
  });
  return made;
}

before(async () => {
  if (skip) return;
  server = await serve({ js: JS, expected: PICTURES });
  browser = await opened(server.url);
});

after(async () => {
  await browser?.close();
  server?.close();
});

/** Vectors of these pictures and texts; loads as it is told. */
async function embed(options, pictures, texts) {
  const work = async (options, pictures, texts) => {
    const clip = await bareclip.load("/expected/bundle", options);
    const images = await clip.embedImages(pictures.map((name) => "/expected/pictures/" + name));
    const words = await clip.embedTexts(texts);
    const about = { device: clip.device, precision: clip.precision, threads: clip.threads };
    await clip.close();
    return { ...about, images: images.map((row) => [...row]), words: words.map((row) => [...row]) };
  };
  return await browser.run(work, options, pictures, texts);
}

test("pixels are Python's", { skip }, async () => {
  const pixels = await browser.run(
    async (names) => {
      const clip = await bareclip.load("/expected/bundle", { towers: ["vision"] });
      const found = {};
      for (const name of names) {
        const address = new URL("/expected/pictures/" + name, location);
        found[name] = await clip.pixels(address).then((pixels) => [...pixels], String);
      }
      await clip.close();
      return found;
    },
    [...names, ...expected.damaged, ...rarer],
  );
  let same = 0;
  for (const name of names) {
    const most = difference(name, pixels[name]);
    const allowed = ROUNDED[name] ?? 0;
    assert.ok(most <= allowed, `${name} differs by ${most}`);
    same += most === 0;
  }
  console.log(`${same} of ${names.length} pictures are identical`);
  for (const name of expected.damaged) assert.match(String(pixels[name]), /^ImageError: cannot read image/);
  checkRarer(pixels, REFUSED);
});

test("vectors at fp32 are Python's", { skip }, async () => {
  const read = names.filter((name) => !ROUNDED[name]);
  const made = await embed({ precision: "fp32" }, read, expected.texts);
  assert.equal(made.device, "wasm");
  checkVectors(read, made.images, made.words);
});

test("int8 is chosen, and is Python's int8", { skip }, async () => {
  const some = names.filter((name) => !ROUNDED[name]);
  const made = await embed({}, some, expected.texts);
  assert.deepEqual(made.precision, { vision: "int8", text: "int8" });
  const images = compared(made.images, some.map((name) => expected.int8.images[names.indexOf(name)]));
  const words = compared(made.words, expected.int8.texts);
  console.log(JSON.stringify({ images, words }));
  assert.ok(images.cosine >= 0.9999 && words.cosine >= 0.9999);
});

test("no vector depends on its companions", { skip }, async () => {
  const some = names.slice(0, 9);
  for (const options of [1, 2].flatMap((threads) => ["fp32", "int8"].map((precision) => ({ threads, precision })))) {
    const together = await embed(options, some, expected.texts);
    for (const at of [0, 5]) {
      const alone = await embed(options, [some[at]], [expected.texts[at]]);
      assert.deepEqual(alone.images, [together.images[at]]);
      assert.deepEqual(alone.words, [together.words[at]]);
    }
  }
});

for (const worker of [true, false]) {
  test(`all of it ${worker ? "in a worker" : "without one"}`, { skip }, async () => {
    const found = await browser.run(async (worker) => {
      const progress = [];
      const clip = await bareclip.load(new URL("/expected/bundle/", location), {
        worker, precision: { vision: "fp32" }, onProgress: (now) => progress.push(now),
      });
      const own = (name) => `../../expected/bundle/pictures/${name}.png`;
      const file = new File([await (await fetch(own("cat"))).blob()], "cat.png");
      const data = new ImageData(64, 64);
      const images = await clip.embedImages([own("dog"), file, data, new Blob(["no picture"])], { onError: "skip" });
      const classified = await clip.classify([file], ["dog", "cat"], { templates: "five", top: 1 });
      const hits = await clip.search(images.vectors, ["dog", "cat", "white"], { text: "a dog", k: 1 });
      const wrong = await clip.embedTexts([7]).catch((error) => [error instanceof bareclip.TextError, error.message]);
      const one = await clip.embedTexts("a").catch((error) => error.message);
      await clip.close();
      const closed = await clip.embedTexts(["a"]).catch((error) => error.message);
      const none = await bareclip.load("/expected/", { worker }).catch((error) => `${error.name}: ${error.message}`);
      return { kept: images.kept, failures: images.failures, classified, hits, wrong, one, closed, none, last: progress.at(-1) };
    }, worker);
    assert.deepEqual(found.kept, [0, 1, 2]);
    assert.deepEqual(found.failures.map(({ index, name }) => [index, name]), [[3, "a Blob of 10 bytes"]]);
    assert.equal(found.classified[0][0].label, "cat");
    assert.equal(found.hits[0].item, "dog");
    assert.deepEqual(found.wrong, [true, "a text must be a string, not number: 7"]);
    assert.match(found.one, /texts must be a list; for one text pass \["a"\]/);
    assert.match(found.closed, /this Clip was closed/);
    assert.match(found.none, /BundleError: .* is not a bundle: it has no bundle.json/);
    assert.ok(found.last.loaded === found.last.total && found.last.total > 5e6);
  });
}

test("files are kept by their hash, and a damaged copy is fetched again", { skip }, async () => {
  const graph = /fp16\/text\.onnx/;
  const load = async (options) => await (await bareclip.load("/expected/bundle", options)).close();
  const options = { precision: "fp16", towers: ["text"] };
  const asked = () => server.asked.splice(0).filter((path) => graph.test(path)).length;
  asked();
  await browser.run(load, options);
  assert.equal(asked(), 2);
  await browser.run(load, options);
  assert.equal(asked(), 0);
  await browser.run(load, { ...options, cache: false });
  assert.equal(asked(), 2);
  const damaged = await browser.run(async () => {
    const cache = await caches.open("bareclip");
    const kept = await cache.keys();
    for (const request of kept) await cache.put(request, new Response("x"));
    return kept.every(({ url }) => /\/bareclip\/[0-9a-f]{64}$/.test(url));
  });
  assert.ok(damaged);
  await browser.run(load, options);
  assert.equal(asked(), 2);
});

test("a page that is not isolated is told so once, and runs on one thread", { skip }, async () => {
  const failed = (line) => line.includes("404"); // the browser's own note
  assert.deepEqual((await browser.complaints()).filter((line) => !failed(line)), []);
  const plain = await serve({ js: JS, expected: PICTURES }, { isolated: false });
  const other = await opened(plain.url);
  const threads = await other.run(async () => {
    const found = [];
    for (const threads of [undefined, undefined]) {
      const clip = await bareclip.load("/expected/bundle", { threads, towers: ["text"] });
      await clip.embedTexts(["a"]);
      found.push(clip.threads);
      await clip.close();
    }
    return found;
  });
  assert.deepEqual(threads, [1, 1]);
  const [warning, ...more] = await other.complaints();
  assert.match(warning, /not cross-origin isolated, so it computes on one thread/);
  assert.deepEqual(more, []);
  await other.close();
  plain.close();
});

test("WebGPU: fp32 is Python's, and what is missing is named when it is loaded", { skip }, async () => {
  const gpu = await opened(server.url, SWIFTSHADER);
  const made = await gpu.run(async (texts) => {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) return null;
    const load = (options) => bareclip.load("/expected/bundle", { device: "webgpu", ...options });
    const refused = {};
    for (const precision of ["int8", "fp16"]) {
      refused[precision] = await load({ precision }).then((clip) => clip.close(), (error) => `${error.name}: ${error.message}`);
    }
    const found = { halves: adapter.features.has("shader-f16"), refused };
    for (const precision of ["fp32", "auto"]) {
      const clip = await load({ precision });
      const vectors = await clip.embedTexts(texts);
      const images = await clip.embedImages(["/expected/pictures/rgb.png"]);
      found[precision] = { chosen: clip.precision.text, words: vectors.map((row) => [...row]), images: images.map((row) => [...row]) };
      await clip.close();
    }
    return found;
  }, expected.texts);
  await gpu.close();
  assert.ok(made, "Chromium found no adapter");
  assert.match(made.refused.int8, /DeviceError: int8 has no kernels on WebGPU/);
  if (!made.halves) assert.match(made.refused.fp16, /DeviceError: fp16 wants the WebGPU feature "shader-f16"/);
  assert.equal(made.auto.chosen, made.halves ? "fp16" : "int4");
  const words = compared(made.fp32.words, expected.fp32.texts);
  const image = compared(made.fp32.images, [expected.fp32.images[names.indexOf("rgb.png")]]);
  const four = compared(made.auto.words, expected.int4.texts);
  console.log(JSON.stringify({ halves: made.halves, words, image, four }));
  assert.ok(words.most <= 1e-6 && image.most <= 1e-6);
  assert.ok(made.halves || four.cosine >= 0.998);
});

test("without WebGPU that is said", { skip }, async () => {
  const said = await browser.run(async () => {
    const tries = [{ device: "cpu" }, { device: "webgpu" }].map((options) =>
      bareclip.load("/expected/bundle", options).catch((error) => `${error.name}: ${error.message}`),
    );
    return await Promise.all(tries);
  });
  assert.match(said[0], /DeviceError: device "cpu" is Node's/);
  assert.match(String(said[1]), /DeviceError: device "webgpu" is not available|\[object Object\]/);
});
