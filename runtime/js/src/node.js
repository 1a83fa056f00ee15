/** bareclip in Node: the package's face there. */

import { randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { MANIFEST } from "./bundle.js";
import { Clip } from "./clip.js";
import { Engine } from "./engine.js";
import { BundleError, reason } from "./errors.js";
import { urlSource } from "./files.js";
import { decode } from "./images/decode_node.js";
import { imported, wasmDevice, webgpuDevice } from "./inference/device.js";
import { modules } from "./modules.js";
import { checkedOptions } from "./options.js";

export { Classifier, Clip } from "./clip.js";
export * from "./errors.js";

/** @typedef {import("./options.js").CommonOptions} CommonOptions */
/** @typedef {CommonOptions & {cache?: string | null}} LoadOptions */

/**
 * Loads a bundle.
 * @param {string | URL} bundle The folder that `bareclip export` made, or its address.
 * @param {LoadOptions} [options] See options.js; `cache`: a folder for files that come from an
 *   address, named by their SHA-256.
 * @returns {Promise<Clip>}
 * @throws {BundleError} No bundle there, damaged, or without that precision or tower.
 * @throws {DeviceError} No ONNX Runtime, or the device does not run that precision.
 */
export async function load(bundle, options = {}) {
  const checked = checkedOptions(options, { cache: null });
  const place = bundle instanceof URL ? bundle.href : bundle;
  const remote = /^https?:/.test(place);
  const source = remote ? urlSource(place) : folderSource(place);
  const cache = remote && options.cache ? folderCache(options.cache) : null;
  const platform = { modules: known, device, decode };
  return new Clip(await Engine.open(source, cache, checked, platform, options.onProgress ?? (() => {})));
}

// Its root is built for Node, also with several threads; "/wasm" is for browsers.
const known = { ...modules(), wasm: () => import("onnxruntime-web") };

/**
 * @param {import("./options.js").Options} options
 * @returns {Promise<import("./inference/device.js").Device>}
 */
async function device({ device: wanted, threads }) {
  const native = () => import("onnxruntime-node");
  if (wanted === "webgpu") return await webgpuDevice(known.webgpu, threads ?? 1);
  if (wanted === "wasm") return await wasmDevice(known.wasm, threads ?? 1);
  try {
    const ort = await imported(native, "onnxruntime-node");
    return { name: "cpu", ort, threads: threads ?? 0, halves: true };
  } catch (error) {
    if (wanted === "cpu") throw error;
    return await wasmDevice(known.wasm, threads ?? 1);
  }
}

/**
 * A folder on disk.
 * @param {string} folder
 * @returns {import("./files.js").Source}
 */
function folderSource(folder) {
  const root = folder.startsWith("file:") ? fileURLToPath(folder) : folder;
  return {
    place: root,
    async read(name, _size, onBytes) {
      try {
        const data = Uint8Array.from(await readFile(join(root, name)));
        onBytes(data.length);
        return data;
      } catch (error) {
        throw new BundleError(
          name === MANIFEST
            ? `${root} is not a bundle: it has no ${MANIFEST}; make one with: bareclip export ` +
              "CHECKPOINT -o FOLDER"
            : `cannot read ${join(root, name)}: ${reason(error)}; export or copy the bundle again`,
        );
      }
    },
  };
}

/**
 * @param {string} folder
 * @returns {import("./files.js").Cache}
 */
function folderCache(folder) {
  return {
    async get(sha256) {
      return await readFile(join(folder, sha256)).then((data) => Uint8Array.from(data), () => null);
    },
    async put(sha256, data) {
      await mkdir(folder, { recursive: true });
      const partial = join(folder, `.${sha256}.${randomUUID()}.partial`);
      try {
        await writeFile(partial, data);
        await rename(partial, join(folder, sha256));
      } finally {
        await rm(partial, { force: true });
      }
    },
  };
}
