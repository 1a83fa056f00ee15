/** bareclip in browsers: the package's face there. */

import { Clip } from "./clip.js";
import { BareclipError, DeviceError } from "./errors.js";
import { resolved } from "./modules.js";
import { checkedOptions } from "./options.js";
import { openHere } from "./here.js";
import { openInWorker } from "./remote.js";

export { Classifier, Clip } from "./clip.js";
export * from "./errors.js";

/** @typedef {import("./options.js").CommonOptions} CommonOptions */
/** @typedef {CommonOptions & {cache?: boolean, worker?: boolean}} LoadOptions */

// Each more is worth less, and a phone's slow cores hold its fast ones up.
const MOST_THREADS = 4;
let warned = false;

/**
 * Loads a bundle.
 * @param {string | URL} bundle The address of the folder that `bareclip export` made.
 * @param {LoadOptions} [options] See options.js; `cache`: keep the files in this site's own cache,
 *   by their SHA-256, true unless it is said otherwise; `worker`: work in a web worker, so that the
 *   page stays free, likewise true.
 * @returns {Promise<Clip>}
 * @throws {BundleError} No bundle there, damaged, or without that precision or tower.
 * @throws {DeviceError} No ONNX Runtime, or the device does not run that precision.
 */
export async function load(bundle, options = {}) {
  const { cache = true, worker = true, onProgress = () => {} } = options;
  const checked = checkedOptions(options, { cache, worker });
  if (checked.device === "cpu") {
    throw new DeviceError('device "cpu" is Node\'s; in a browser it is "wasm" or "webgpu"');
  }
  if (!globalThis.crypto?.subtle) {
    throw new BareclipError(
      "this page is no secure context, where files cannot be checked: serve it by https, or from " +
        "localhost",
    );
  }
  checked.threads ??= threadsHere();
  const base = globalThis.document?.baseURI ?? globalThis.location.href;
  const address = new URL(bundle, base).href;
  const open = worker ? openInWorker : openHere;
  return new Clip(await open({ address, cache, options: checked, at: resolved() }, onProgress));
}

/** @returns {number} */
function threadsHere() {
  if (globalThis.crossOriginIsolated) return Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS);
  if (!warned) {
    warned = true;
    console.warn(
      "bareclip: this page is not cross-origin isolated, so it computes on one thread; serve it " +
        "with Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp",
    );
  }
  return 1;
}
