import assert from "node:assert/strict";
import { test } from "node:test";

import { FILTERS, resampledColumns, resampledRows, windows } from "../src/images/resampling.js";
import { Resizer } from "../src/images/resizer.js";
import { expected, largest } from "./expected.js";

test("every value is Pillow's", () => {
  for (const { name, sizes: [height, width, high, wide], given, wanted } of expected.resampled) {
    const filter = FILTERS[name];
    const rows = resampledRows(Buffer.from(given, "base64"), width, windows(width, wide, filter));
    const found = resampledColumns(rows, 3 * wide, windows(height, high, filter));
    const label = `${name}, ${width}x${height} to ${wide}x${high}`;
    assert.equal(largest(found, Buffer.from(wanted, "base64")), 0, label);
  }
});

test("an interpolation that is not here is named", () => {
  assert.throws(() => new Resizer({ interpolation: "lanczos" }), {
    name: "BundleError",
    message: /resizes its pictures by lanczos, .* in JavaScript it has bilinear and bicubic/,
  });
});
