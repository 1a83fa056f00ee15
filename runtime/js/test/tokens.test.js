import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { modules } from "../src/modules.js";
import { cleaner } from "../src/texts/clean_up.js";
import { Tokenizer } from "../src/texts/tokenizer.js";
import { TOKENS, families, json } from "./expected.js";

const entities = modules().entities;

async function tokenizer(family, changes = {}) {
  const recipe = { ...json(join(TOKENS, family, "recipe.json")), ...changes };
  const text = readFileSync(join(TOKENS, family, "tokenizer.json"), "utf8");
  return await Tokenizer.read(text, recipe, [], modules());
}

for (const family of families) {
  test(`ids of ${family} are Python's`, async () => {
    const reader = await tokenizer(family);
    const [texts, ids] = ["texts", "ids"].map((name) => json(join(TOKENS, family, `${name}.json`)));
    assert.equal(texts.length, 10_000);
    const wrong = texts.filter((text, at) => reader.ids(text, true).join() !== ids[at].join());
    assert.deepEqual(wrong.slice(0, 3), [], `${wrong.length} differ`);
  });
}

test("long texts are cut, or refused, and looked at no further than matters", async () => {
  const reader = await tokenizer("clip");
  const [start, , end] = reader.ids("a", true);
  const cut = reader.ids("a ".repeat(400_000), true);
  assert.equal(cut.length, 77);
  assert.deepEqual([cut[0], cut[76]], [start, end]);
  assert.throws(() => reader.ids("a ".repeat(99), false), {
    name: "TextError",
    message: /has 101 tokens; this model takes 77/,
  });
  assert.throws(() => reader.ids("🐱".repeat(999), false), /more than \d+ tokens|has \d+ tokens/);
  assert.throws(() => reader.ids(7, true), /a text must be a string, not number: 7/);
  assert.throws(() => reader.ids("\ud800", true), /half of a surrogate pair/);
});

test("a text's width depends on itself alone", async () => {
  const reader = await tokenizer("clip");
  const ids = ["a", "a b", "a b c", "b"].map((text) => reader.ids(text, true));
  const batches = reader.batches(ids, 64);
  assert.deepEqual(batches.map(({ places, width }) => [width, places]), [[4, [1, 0, 3]], [6, [2]]]);
  const fixed = await tokenizer("siglip2");
  assert.equal(fixed.batches([fixed.ids("a", true)], 64)[0].width, 64);
});

test("clean-up is Python's, step by step", async () => {
  const cases = JSON.parse(readFileSync(join(TOKENS, "..", "pictures", "expected.json"))).cleaned;
  assert.ok(cases.length > 100);
  for (const [step, given, wanted] of cases) {
    const clean = await cleaner([step], [], entities);
    assert.equal(clean(given), wanted, `${step} of ${JSON.stringify(given)}`);
  }
});

test("ftfy's repair is refused by name, where it could change a text", async () => {
  const clean = await cleaner(["fix_text", "unescape_html", "lowercase"], [], entities);
  assert.equal(clean("Cats & dogs, 100%\n"), "cats & dogs, 100%\n");
  for (const text of ["café", "“x”", "a &amp; b", "a\rb", "\x1b[0m"]) {
    assert.throws(() => clean(text), { name: "TextError", message: /"fix_text", a repair by Python's ftfy/ });
  }
  const without = await cleaner(["fix_text", "unescape_html"], ["fix_text"], entities);
  assert.equal(without("caf&eacute; “x”"), "café “x”");
});
