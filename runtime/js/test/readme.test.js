import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { BUNDLE } from "./expected.js";

const JS = join(import.meta.dirname, "..");
const ROOT = join(JS, "..", "..");

for (const [name, readme] of [["this README", join(JS, "README.md")], ["the project's", join(ROOT, "README.md")]]) {
  const [, example] = readFileSync(readme, "utf8").match(/```js\n(.*?)```/s) ?? [];
  test(`the example of ${name} runs`, { skip: example ? false : "it has none" }, (t) => {
    const folder = mkdtempSync(join(tmpdir(), "bareclip-js-"));
    t.after(() => rmSync(folder, { recursive: true }));
    cpSync(BUNDLE, join(folder, "clip-b32"), { recursive: true });
    cpSync(join(BUNDLE, "pictures", "cat.png"), join(folder, "photo.jpg"));
    cpSync(join(JS, "package.json"), join(folder, "package.json"));
    cpSync(join(JS, "src"), join(folder, "src"), { recursive: true });
    symlinkSync(join(JS, "node_modules"), join(folder, "node_modules"));
    writeFileSync(join(folder, "example.js"), example);
    const { stdout, stderr, status } = spawnSync("node", ["example.js"], { cwd: folder, encoding: "utf8" });
    assert.deepEqual([stderr, status], ["", 0]);
    assert.match(stdout, /label: 'cat', probability: 0\.99/);
  });
}

test("its types fit how it is used", (t) => {
  const folder = mkdtempSync(join(JS, "test", ".types-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const use = (line) => `
    import { load, BareclipError, type Clip } from "bareclip";
    const clip: Clip = await load(new URL("https://host/clip"), {
      precision: { vision: "int8" }, towers: ["vision"], onProgress: ({ loaded, total }) => loaded / total,
    });
    const [vector]: Float32Array[] = await clip.embedImages([new Blob([])]);
    const { kept }: { kept: number[] } = await clip.embedImages(["a"], { onError: "skip" });
    const [{ item, similarity }] = await clip.search([vector], [{ name: "a" }], { text: "a" });
    const best: { label: string; probability: number } = (await clip.classify(["a"], ["b"], { top: 1 }))[0][0];
    console.log(item.name, similarity.toFixed(), best, kept, clip.manifest.image?.size, BareclipError);
    ${line}
  `;
  const check = (condition, line) => {
    writeFileSync(join(folder, "use.mts"), use(line));
    const flags = ["--noEmit", "--strict", "--skipLibCheck", "--ignoreConfig", "--types", "node", "--target", "es2023"];
    flags.push("--lib", "es2023,dom,dom.iterable", ...condition);
    return spawnSync("npx", ["tsc", ...flags, join(folder, "use.mts")], { cwd: JS, encoding: "utf8" }).stdout;
  };
  for (const condition of [["--module", "nodenext"], ["--module", "esnext", "--moduleResolution", "bundler"]]) {
    assert.equal(check(condition, ""), "");
    assert.match(check(condition, 'await load("a", { treads: 1 });'), /treads/);
    assert.match(check(condition, "await clip.embedTexts([1]);"), /TS2345/);
  }
});
