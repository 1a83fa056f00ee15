/**
 * Copies the page and all that it needs into a folder for any static host:
 * node demo/build.js [FOLDER] [BUNDLE]
 *
 * FOLDER is demo/dist, BUNDLE the demo model, unless they are given. `_headers`, which some hosts
 * read, isolates the page, so that it computes on several threads; others are to be told to send
 * what it says. Without, it computes on one.
 */

import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";

const demo = import.meta.dirname;
const js = join(demo, "..");
const drawn = join(js, "..", "bareclip", "demo");

const IMPORTS = {
  bareclip: "./bareclip/browser.js",
  "@huggingface/tokenizers": "./lib/tokenizers.min.mjs",
  "entities/decode": "./lib/entities/decode.js",
  "lcms-wasm": "./lib/lcms/lcms.min.js",
  "onnxruntime-web/wasm": "./lib/ort.wasm.min.mjs",
};
const RUNTIME = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];
const HEADERS = `/*
  Cross-Origin-Opener-Policy: same-origin
  Cross-Origin-Embedder-Policy: require-corp
`;
const ABOUT =
  "This demo model is small and knows drawings, such as those above, and no photos: a bundle of a " +
  "real CLIP takes its place in the same page.";

/**
 * @param {string} folder Emptied first, where it holds a page that was built.
 * @param {string} bundle
 */
export function build(folder, bundle = drawn) {
  if (existsSync(folder) && readdirSync(folder).length && !existsSync(join(folder, "_headers"))) {
    throw new Error(`${folder} holds something else than this page; name an empty folder`);
  }
  rmSync(folder, { recursive: true, force: true });
  const modules = join(js, "node_modules");
  const copy = (from, to) => {
    mkdirSync(dirname(join(folder, to)), { recursive: true });
    cpSync(from, join(folder, to), { recursive: true });
  };
  for (const name of ["demo.js", "demo.css"]) copy(join(demo, name), name);
  const own = scripts(join(js, "src")).filter((name) => !name.includes("node"));
  for (const name of own) copy(join(js, "src", name), join("bareclip", name));
  copy(join(modules, "@huggingface/tokenizers/dist/tokenizers.min.mjs"), "lib/tokenizers.min.mjs");
  for (const name of scripts(join(modules, "entities/dist"))) {
    copy(join(modules, "entities/dist", name), join("lib/entities", name));
  }
  for (const name of ["lcms.min.js", "lcms.wasm"]) copy(join(modules, "lcms-wasm/dist", name), join("lib/lcms", name));
  for (const name of RUNTIME) copy(join(modules, "onnxruntime-web/dist", name), join("lib", name));
  copy(join(drawn, "pictures"), "samples");
  const manifest = JSON.parse(readFileSync(join(bundle, "bundle.json"), "utf8"));
  for (const name of ["bundle.json", ...files(manifest)]) copy(join(bundle, name), join("model", name));
  writeFileSync(join(folder, "_headers"), HEADERS);
  const imports = JSON.stringify({ imports: IMPORTS });
  const page = readFileSync(join(demo, "index.html"), "utf8");
  const values = {
    imports,
    policy: policy(imports),
    runtime: (size(folder, RUNTIME) / 1e6).toFixed(1),
    about: bundle === drawn ? ABOUT : "",
  };
  writeFileSync(join(folder, "index.html"), page.replace(/{{(\w+)}}/g, (_, name) => values[name]));
}

/** Bytes that every visitor downloads besides page and model, as hosts compress them. */
export function downloaded(folder) {
  const own = scripts(join(folder, "bareclip"));
  return size(folder, ["tokenizers.min.mjs", ...RUNTIME]) + size(folder, own, "bareclip");
}

function size(folder, names, under = "lib") {
  const bytes = names.map((name) => gzipSync(readFileSync(join(folder, under, name)), { level: 9 }).length);
  return bytes.reduce((sum, count) => sum + count, 0);
}

/** Only this page's own files may be asked for: nothing leaves the browser. */
function policy(imports) {
  const hash = createHash("sha256").update(imports).digest("base64");
  return [
    "default-src 'none'", `script-src 'self' 'wasm-unsafe-eval' 'sha256-${hash}'`, "style-src 'self'",
    "img-src 'self' blob:", "connect-src 'self'", "worker-src 'self' blob:", "form-action 'none'",
  ].join("; ");
}

function scripts(folder) {
  return readdirSync(folder, { recursive: true }).filter((name) => name.endsWith(".js"));
}

function files({ precisions, tokenizer }) {
  const towers = Object.values(precisions).flatMap((of) => Object.values(of));
  const names = towers.flatMap((tower) => Object.keys(tower.files));
  return tokenizer ? ["tokenizer.json", ...names] : names;
}

if (process.argv[1] === import.meta.filename) {
  const [folder = join(demo, "dist"), bundle] = process.argv.slice(2);
  build(folder, bundle);
  console.log(`${folder}: ${(downloaded(folder) / 1e6).toFixed(2)} MB to download besides page and model`);
}
