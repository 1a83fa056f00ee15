/** What `load` may be asked for. */

import { TOWERS } from "./bundle.js";
import { BareclipError, short } from "./errors.js";
import { MAX_PIXELS } from "./images/geometry.js";

/**
 * How a bundle runs, with all that was left out.
 * @typedef {object} Options
 * @property {readonly import("./bundle.js").Tower[]} towers Those that are loaded.
 * @property {import("./inference/device.js").PrecisionChoice} precision One the bundle has, or one
 *   per tower. `"auto"` is int8 on wasm and fp32 in Node, fp16 on WebGPU where it has
 *   `shader-f16` and else int4, or what the bundle has.
 * @property {"auto" | import("./inference/device.js").DeviceName} device `"auto"` is WebAssembly in
 *   browsers, and in Node its own processor where onnxruntime-node is installed.
 * @property {number | null} threads For one operator; null counts them.
 * @property {number} maxPixels A picture of more is refused.
 * @property {readonly import("./bundle.js").CleanUp[]} leaveOut Steps of the texts' clean-up that
 *   are not done, as Python does without ftfy: `["fix_text"]`.
 *
 * @typedef {object} More
 * @property {(progress: import("./files.js").Progress) => void} onProgress Told of each part of the
 *   model's files that has come, in bytes.
 */

/** @typedef {Partial<Options & More>} CommonOptions */

/** @type {Options} */
const DEFAULTS = {
  towers: TOWERS,
  precision: "auto",
  device: "auto",
  threads: null,
  maxPixels: MAX_PIXELS,
  leaveOut: [],
};

const DEVICES = ["auto", "cpu", "wasm", "webgpu"];

/**
 * @param {CommonOptions} given
 * @param {Record<string, unknown>} own Options of the platform alone, by name.
 * @returns {Options}
 * @throws {BareclipError} An unknown one, or one that cannot be.
 */
export function checkedOptions(given, own) {
  const known = [...Object.keys(DEFAULTS), "onProgress", ...Object.keys(own)];
  const unknown = Object.keys(given).find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new BareclipError(`unknown option ${short(unknown)}; options are ${known.join(", ")}`);
  }
  const options = Object.fromEntries(
    Object.entries(DEFAULTS).map(([name, usual]) => {
      const value = given[/** @type {keyof Options} */ (name)];
      return [name, value === undefined ? usual : value];
    }),
  );
  const { device, threads, maxPixels } = /** @type {Options} */ (options);
  if (!DEVICES.includes(device)) {
    throw new BareclipError(`device ${short(device)} is unknown; it is one of ${DEVICES.join(", ")}`);
  }
  if (threads !== null && !(Number.isInteger(threads) && threads >= 1)) {
    throw new BareclipError(`threads is ${short(threads)}; it must be at least 1, or null`);
  }
  if (!(Number.isInteger(maxPixels) && maxPixels >= 1)) {
    throw new BareclipError(`maxPixels is ${short(maxPixels)}; it must be at least 1`);
  }
  return /** @type {Options} */ (options);
}
