/** What Python answered; see run.js. */

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

const folder = process.env.BARECLIP_EXPECTED ?? "";

export const PICTURES = join(folder, "pictures");
export const TOKENS = join(folder, "tokens");
export const BUNDLE = join(PICTURES, "bundle");
export const expected = json(join(PICTURES, "expected.json"));
const all = Object.keys(expected.pixels);
// Kinds of file that Python reads, and not every decoder here.
export const rarer = all.filter((name) => name.startsWith("rarer-"));
export const names = all.slice(0, -rarer.length);

export function json(file) {
  return JSON.parse(readFileSync(file, "utf8"));
}

export function file(name) {
  return join(PICTURES, "pictures", name);
}

export const families = readdirSync(TOKENS);

/** Largest difference from the pixels that Python made of a picture. */
export function difference(name, pixels) {
  return largest(pixels, Buffer.from(expected.pixels[name], "base64"));
}

export function largest(left, right) {
  if (left.length !== right.length) return Infinity;
  return left.reduce((most, value, place) => Math.max(most, Math.abs(value - right[place])), 0);
}

/** Over rows of unit vectors, the largest difference, the least cosine and the mean one. */
export function compared(given, wanted) {
  const rows = given.map((row) => Array.from(row));
  const dot = (a, b) => a.reduce((sum, value, place) => sum + value * b[place], 0);
  const cosines = rows.map((row, at) => dot(row, wanted[at]) / Math.sqrt(dot(row, row) * dot(wanted[at], wanted[at])));
  return {
    most: Math.max(...rows.map((row, at) => largest(row, wanted[at]))),
    cosine: Math.min(...cosines),
    mean: cosines.reduce((sum, one) => sum + one, 0) / cosines.length,
  };
}

/** Holds vectors of pictures and of `expected.texts` at fp32 to Python's. */
export function checkVectors(pictures, images, texts) {
  const wanted = pictures.map((name) => expected.fp32.images[names.indexOf(name)]);
  const [shown, words] = [compared(images, wanted), compared(texts, expected.fp32.texts)];
  console.log(JSON.stringify({ images: shown, words }));
  assert.ok(shown.most <= 1e-4 && shown.cosine >= 0.999999, JSON.stringify(shown));
  assert.ok(words.most <= 1e-6, JSON.stringify(words));
}

/** Holds what is made of rarer kinds of file to Python's pixels, or to saying what to do. */
export function checkRarer(found, refused) {
  for (const name of rarer) {
    const kind = refused[name.split(".").at(-1)];
    if (kind) assert.match(String(found[name]), new RegExp(`^ImageError: cannot read image .*: it is ${kind}`), name);
    else assert.equal(difference(name, found[name]), 0, `${name}: ${String(found[name]).slice(0, 200)}`);
  }
}
