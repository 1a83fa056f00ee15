import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import { load } from "bareclip";
import { BUNDLE, checkRarer, checkVectors, difference, expected, file, names, rarer } from "./expected.js";
import { serve } from "./server.js";

// libvips reads no BMP; of AVIF it spreads colours over pixels in another way.
const READ = names.filter((name) => !/bmp|avif/.test(name));
const convert = "which sharp does not read, or a damaged one: convert it to PNG";
const REFUSED = {
  bmp: `a BMP, ${convert}`,
  ico: `an icon, ${convert}`,
  jp2: `a JPEG 2000, ${convert}`,
  ppm: `a PPM, ${convert}`,
  psd: `a Photoshop document, ${convert}`,
  tga: "in no image format that sharp reads",
};

test("pixels are Python's", async () => {
  const clip = await load(BUNDLE);
  for (const name of READ) {
    const most = difference(name, await clip.pixels(file(name)));
    assert.equal(most, 0, name);
  }
  for (const name of expected.damaged) {
    await assert.rejects(clip.pixels(file(name)), { name: "ImageError", message: /^cannot read image ".*": / });
  }
  const found = {};
  for (const name of rarer) found[name] = await clip.pixels(file(name)).catch(String);
  checkRarer(found, REFUSED);
  await clip.close();
  await assert.rejects(clip.embedTexts(["a"]), /this Clip was closed/);
});

for (const device of ["cpu", "wasm"]) {
  test(`vectors on ${device} are Python's`, async () => {
    const clip = await load(BUNDLE, { device, precision: "fp32" });
    const found = await clip.embedImages(READ.map(file));
    checkVectors(READ, found, await clip.embedTexts(expected.texts));
    await clip.close();
  });
}

test("what has the same meaning in Python has the same answer", async () => {
  const clip = await load(BUNDLE);
  assert.deepEqual([clip.device, clip.precision], ["cpu", { vision: "fp32", text: "fp32" }]);
  const pictures = names.slice(8, 10).map(file);
  const labels = ["cat", "dog", "house"];
  for (const [wanted, options] of [
    [expected.classified, { templates: "five" }],
    [expected.averaged, { templates: "imagenet", ensemble: "probability" }],
  ]) {
    const found = await clip.classify(pictures, labels, options);
    for (const [at, row] of found.entries()) {
      for (const { label, probability } of row) {
        assert.ok(Math.abs(probability - wanted[at][label]) < 1e-4, `${label} ${probability}`);
      }
      assert.deepEqual(row.map((one) => one.probability), row.map((one) => one.probability).toSorted((a, b) => b - a));
    }
  }
  const own = (name) => join(BUNDLE, "pictures", `${name}.png`);
  const animals = ["cat", "dog", "bird"];
  const vectors = await clip.embedImages(animals.map(own));
  assert.equal((await clip.search(vectors, animals, { text: "a dog", k: 1 }))[0].item, "dog");
  const [first, ...others] = await clip.search(vectors, animals, { image: own("bird") });
  assert.deepEqual([first.item, others.length], ["bird", 2]);
  assert.ok(Math.abs(first.similarity - 1) < 1e-6);
  const [row] = clip.similarity([vectors[0]], vectors);
  assert.ok(Math.abs(row[0] - 1) < 1e-6 && row[1] < 0.99);
  const upper = await clip.classify([own("cat")], ["cat"], { templates: (label) => `the ${label}` });
  assert.deepEqual(upper, [[{ label: "cat", probability: 1 }]]);
  await clip.close();
});

test("every kind of input, and a bad one costs no other", async () => {
  const clip = await load(pathToFileURL(BUNDLE));
  const path = file("rgb.png");
  const bytes = new Uint8Array(readFileSync(path));
  const inputs = [path, pathToFileURL(path), bytes, bytes.slice().buffer, new Blob([bytes])];
  const vectors = await clip.embedImages(inputs);
  for (const vector of vectors) assert.deepEqual(vector, vectors[0]);
  const pixels = Uint8Array.from({ length: 4 * 64 * 64 }, (_, at) => (at % 4 === 3 ? 0 : 7));
  const raw = { data: pixels, width: 64, height: 64 };
  assert.ok((await clip.pixels(raw)).every((value) => value === 255));
  const found = await clip.embedImages([path, "nowhere.png", null, path], { onError: "skip" });
  assert.deepEqual([found.kept, found.vectors.length], [[0, 3], 2]);
  assert.deepEqual(found.failures.map(({ index, name }) => [index, name]), [[1, '"nowhere.png"'], [2, "null"]]);
  await assert.rejects(clip.embedImages(["nowhere.png"]), { name: "ImageError", message: /nowhere.png/ });
  await assert.rejects(clip.embedImages(path), /images must be a list; for one image/);
  await assert.rejects(clip.embedTexts("a cat"), /texts must be a list; for one text pass \["a cat"\]/);
  assert.deepEqual([await clip.embedImages([]), await clip.embedTexts([])], [[], []]);
  await assert.rejects(clip.classify([path], []), { name: "TextError", message: /no labels given/ });
  await assert.rejects(clip.classify([path], ["a"], { templates: "all" }), /no templates named "all"/);
  await assert.rejects(clip.search(vectors, [1], { text: "a" }), { name: "VectorError" });
  assert.throws(() => clip.similarity(vectors[0], vectors), /for one vector of 128 numbers pass \[vector\]/);
  await clip.close();
});

test("a picture of more pixels is refused before it is decoded", async () => {
  const clip = await load(BUNDLE, { maxPixels: 1000, towers: ["vision"] });
  await assert.rejects(clip.pixels(file("large.jpg")), /1600x1200/);
  await assert.rejects(clip.embedTexts(["a"]), /loaded without its text tower; load it with towers/);
  await clip.close();
});

test("from an address, with a cache of files by their SHA-256", async (t) => {
  const server = await serve({ bundle: BUNDLE });
  const cache = mkdtempSync(join(tmpdir(), "bareclip-js-"));
  t.after(() => (server.close(), rmSync(cache, { recursive: true })));
  const progress = [];
  const first = await load(`${server.url}/bundle`, { cache, onProgress: (now) => progress.push(now) });
  await first.close();
  const { loaded, total } = progress.at(-1);
  assert.ok(loaded === total && total > 7e6 && progress.length > 5);
  assert.equal(readdirSync(cache).length, 5);
  const asked = server.asked.length;
  await (await load(`${server.url}/bundle/`, { cache })).close();
  assert.deepEqual(server.asked.slice(asked), ["/bundle/bundle.json"]);
  await assert.rejects(load(`${server.url}/none`), /is not a bundle: it has no bundle.json/);
});
