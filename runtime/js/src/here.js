/** A bundle opened in this thread of a browser: the page's own, or a worker's. */

import { Engine } from "./engine.js";
import { urlSource } from "./files.js";
import { decode } from "./images/decode_browser.js";
import { wasmDevice, webgpuDevice } from "./inference/device.js";
import { modules } from "./modules.js";

/**
 * What is opened, as it can be sent to a worker.
 * @typedef {object} Wanted
 * @property {string} address
 * @property {boolean} cache
 * @property {import("./options.js").Options} options
 * @property {import("./modules.js").Addresses} at
 */

/**
 * @param {Wanted} wanted
 * @param {(progress: import("./files.js").Progress) => void} onProgress
 * @returns {Promise<Engine>}
 */
export async function openHere({ address, cache, options, at }, onProgress) {
  const known = modules(at);
  const threads = options.threads ?? 1;
  const platform = {
    modules: known,
    decode,
    device: async () =>
      options.device === "webgpu"
        ? await webgpuDevice(known.webgpu, threads)
        : await wasmDevice(known.wasm, threads),
  };
  const kept = cache && "caches" in globalThis ? siteCache() : null;
  return await Engine.open(urlSource(address), kept, options, platform, onProgress);
}

/**
 * The site's own cache, by SHA-256: two bundles that share a file have it once.
 * @returns {import("./files.js").Cache}
 */
function siteCache() {
  const key = (/** @type {string} */ sha256) => new URL(`/bareclip/${sha256}`, self.location.origin);
  return {
    async get(sha256) {
      const kept = await (await caches.open("bareclip")).match(key(sha256)).catch(() => undefined);
      return kept ? new Uint8Array(await kept.arrayBuffer()) : null;
    },
    async put(sha256, data) {
      // Where there is no room the next visit downloads again, and nothing else is lost.
      const room = await caches.open("bareclip");
      await room.put(key(sha256), new Response(data)).catch(() => {});
    },
  };
}
