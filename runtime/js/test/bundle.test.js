import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { BareclipError, BundleError, load } from "bareclip";
import { readBundle } from "../src/bundle.js";
import { BUNDLE, expected, json } from "./expected.js";

const manifest = () => json(join(BUNDLE, "bundle.json"));
const read = (data) => readBundle(JSON.stringify(data), "there");

/** Objects of a manifest that have these fields, with what an error calls them. */
function* objects(data, fields, where) {
  if (data === null) return;
  if (!Object.keys(fields).every((name) => Object.hasOwn(data, name))) {
    for (const [key, item] of Object.entries(data)) yield* objects(item, fields, `${where}: ${key}`);
    return;
  }
  yield [data, where];
  for (const [name, inner] of Object.entries(fields)) {
    if (inner) yield* objects(data[name], inner, `${where}: ${name}`);
  }
}

test("every field that Python reads is wanted, and no other is taken", () => {
  read(manifest());
  let seen = 0;
  const count = [...objects(manifest(), expected.fields, "x")].length;
  for (let at = 0; at < count; at++) {
    for (const name of Object.keys([...objects(manifest(), expected.fields, "x")][at][0])) {
      const lacking = manifest();
      delete [...objects(lacking, expected.fields, "x")][at][0][name];
      const message = name === "format_version" ? /format version/ : new RegExp(`field "${name}" is missing`);
      assert.throws(() => read(lacking), { name: "BundleError", message });
      seen++;
    }
    const more = manifest();
    const [[object, where]] = [...objects(more, expected.fields, "there/bundle.json")].slice(at);
    object.novelty = 1;
    assert.throws(() => read(more), {
      name: "BundleError",
      message: `unknown field "novelty" in ${where}; update bareclip`,
    });
  }
  assert.ok(seen > 100);
});

test("what Python writes only where it was made is known too", () => {
  assert.deepEqual(expected.may_lack, ["whole", "static_batch"]);
  const file = { size: 1, sha256: "0" };
  const files = { graph: "resize.onnx", onnxruntime: "1.18", inputs: ["image"], files: { "resize.onnx": file } };
  const parity = { reference: "Pillow", max_levels: 1, differing: 0.1, pictures: 3 };
  const whole = { resize: { ...files, parity }, towers: manifest().precisions.fp32 };
  assert.ok([...objects(whole, expected.whole_fields, "x")].length > 3);
  read({ ...manifest(), whole });
  const lacking = { ...whole, resize: files };
  assert.throws(() => read({ ...manifest(), whole: lacking }), /field "parity" is missing/);
  assert.throws(() => read({ ...manifest(), static_batch: 1 }), /graphs of fixed shapes/);
  for (const step of expected.clean_up) {
    const { text } = manifest();
    read({ ...manifest(), text: { ...text, clean_up: [step] } });
  }
});

test("values that mislead are refused by name", () => {
  const cases = [
    [(m) => (m.format_version = 2), /format version 2/],
    [(m) => (m.image.interpolation = "cubic"), /unsupported value "cubic" at .*interpolation/],
    [(m) => (m.image.size = 64.5), /image: size holds 64.5, not a valid integer/],
    [(m) => (m.image.mean = [1, 2]), /image: mean holds \[1,2\]/],
    [(m) => (m.text.clean_up = ["shout"]), /unsupported value "shout"/],
    [(m) => (m.scoring.logit_scale = 51), /lacks a logit_scale up to 50/],
    [(m) => (m.image.size = 65), /lacks an image size/],
    [(m) => (m.image = null), /lacks recipes for the towers that it has/],
    [(m) => (m.tokenizer = null), /lacks a tokenizer/],
    [(m) => (m.name = "__proto__"), null],
    [(m) => (m.precisions.fp32.text.graph = "no.onnx"), /lacks graphs that are among their files/],
  ];
  for (const [change, message] of cases) {
    const data = manifest();
    change(data);
    if (message) assert.throws(() => read(data), { name: "BundleError", message });
    else read(data);
  }
  for (const name of ["../x", "/x", "a/../../x", "C:\\x", "..\\x", "a\0"]) {
    const data = manifest();
    data.precisions.fp32.text.files[name] = { size: 1, sha256: "" };
    assert.throws(() => read(data), /outside the bundle/, name);
  }
  assert.throws(() => readBundle("{", "there"), { name: "BundleError", message: /cannot read there/ });
  assert.throws(() => readBundle("null", "there"), /format version undefined/);
});

test("a bundle whose texts were read otherwise is warned of", (t) => {
  const { mock } = t.mock.method(console, "warn", () => {});
  const data = manifest();
  read(data);
  data.source = { ...data.source, architecture: "SiglipModel", exporter: "bareclip 0.1.0, authored" };
  read(data);
  assert.deepEqual(mock.calls.map(({ arguments: [said] }) => /export it again/.test(said)), [true]);
});

test("files that are missing or damaged are named", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "bareclip-js-"));
  t.after(() => rmSync(folder, { recursive: true }));
  await assert.rejects(load(folder), (error) => {
    assert.ok(error instanceof BundleError && error instanceof BareclipError);
    return /is not a bundle: it has no bundle.json; make one with: bareclip export/.test(error.message);
  });
  cpSync(BUNDLE, folder, { recursive: true });
  const weights = join(folder, "fp32", "vision.onnx.data");
  const whole = readFileSync(weights);
  const bent = Buffer.from(whole);
  bent[99] ^= 1;
  writeFileSync(weights, bent);
  await assert.rejects(load(folder), /fp32\/vision.onnx.data is damaged, its checksum differs/);
  await (await load(folder, { towers: ["text"] })).close();
  writeFileSync(weights, whole.subarray(1));
  await assert.rejects(load(folder), /vision.onnx.data has 5017599 bytes, where the bundle wants 5017600/);
  rmSync(weights);
  await assert.rejects(load(folder), /cannot read .*vision.onnx.data/);
});

test("options that cannot be are refused", async () => {
  for (const [options, message] of [
    [{ treads: 2 }, /unknown option "treads"; options are towers, precision/],
    [{ device: "cuda" }, /device "cuda" is unknown/],
    [{ threads: 0 }, /threads is 0/],
    [{ towers: ["audio"] }, /towers are \["audio"\]/],
    [{ precision: "fp8" }, /has no precision "fp8"; it has fp32/],
    [{ precision: { audio: "fp32" } }, /must be a name, or name some of vision, text/],
    [{ device: "webgpu" }, /device "webgpu" is not available: there is no WebGPU here/],
  ]) {
    await assert.rejects(load(BUNDLE, options), { message });
  }
});
