/** Where a bundle's towers run, and at which precision. */

import { BareclipError, BundleError, DeviceError, short } from "../errors.js";

/** @typedef {import("../bundle.js").Bundle} Bundle */
/** @typedef {import("../bundle.js").Tower} Tower */
/** @typedef {import("../modules.js").Ort} Ort */
/** @typedef {"fp32" | "fp16" | "int8" | "int4"} Precision */
/** @typedef {Precision | "auto" | Partial<Record<Tower, Precision | "auto">>} PrecisionChoice */
/** @typedef {"cpu" | "wasm" | "webgpu"} DeviceName */

/**
 * @typedef {object} Device
 * @property {DeviceName} name
 * @property {Ort} ort
 * @property {number} threads Of one operator; 0 where ONNX Runtime counts them itself.
 * @property {boolean} halves Whether it computes with 16-bit floats.
 */

// What is taken where nothing is said, the best first. WebGPU has no kernels for int8, which would
// go back to WebAssembly operator by operator.
const ORDER = {
  cpu: ["fp32", "int8", "int4", "fp16"],
  wasm: ["int8", "fp32", "int4", "fp16"],
  webgpu: ["fp16", "int4", "fp32"],
};

/**
 * ONNX Runtime in WebAssembly.
 * @param {() => Promise<Ort>} load
 * @param {number} threads
 * @returns {Promise<Device>}
 */
export async function wasmDevice(load, threads) {
  const ort = await imported(load, "onnxruntime-web");
  ort.env.wasm.numThreads = threads;
  return { name: "wasm", ort, threads, halves: true };
}

/**
 * ONNX Runtime with WebGPU.
 * @param {() => Promise<Ort>} load
 * @param {number} threads Of what runs beside the GPU.
 * @returns {Promise<Device>}
 * @throws {DeviceError} There is no WebGPU, or no GPU.
 */
export async function webgpuDevice(load, threads) {
  const gpu = /** @type {any} */ (globalThis.navigator)?.gpu;
  const adapter = await gpu?.requestAdapter();
  if (!adapter) {
    throw new DeviceError(
      `device "webgpu" is not available: ${gpu ? "WebGPU finds no GPU here" : "there is no WebGPU here"}; ` +
        'load with device: "wasm"',
    );
  }
  const ort = await imported(load, "onnxruntime-web");
  ort.env.wasm.numThreads = threads;
  return { name: "webgpu", ort, threads, halves: adapter.features.has("shader-f16") };
}

/**
 * @param {() => Promise<Ort>} load
 * @param {string} name
 * @returns {Promise<Ort>}
 */
export async function imported(load, name) {
  try {
    const found = /** @type {any} */ (await load());
    return found.InferenceSession ? found : found.default;
  } catch (error) {
    throw new DeviceError(`${name} cannot be loaded (${String(error)}): npm install ${name}`);
  }
}

/**
 * The precision a tower runs at.
 * @param {Bundle} bundle
 * @param {Tower} tower
 * @param {PrecisionChoice} choice
 * @param {Device} device
 * @returns {string}
 * @throws {BundleError} The bundle has not that precision, or none that runs there.
 * @throws {DeviceError} The device does not run it.
 */
export function choosePrecision(bundle, tower, choice, device) {
  const wanted = typeof choice === "string" ? choice : (checked(choice)[tower] ?? "auto");
  if (wanted !== "auto") {
    bundle.tower(wanted, tower);
    const lacks = unable(wanted, device);
    if (lacks) throw new DeviceError(lacks);
    return wanted;
  }
  const found = ORDER[device.name].find(
    (precision) => bundle.has(precision, tower) && !unable(precision, device),
  );
  if (found) return found;
  throw new BundleError(
    `${bundle.place} has no ${tower} tower that runs on ${device.name}; it has ` +
      `${Object.keys(bundle.manifest.precisions).join(", ")}: export it again with --precision fp32`,
  );
}

/**
 * @param {string} precision
 * @param {Device} device
 * @returns {string | null} Why it does not run there; null where it does.
 */
function unable(precision, device) {
  if (device.name !== "webgpu") return null;
  if (precision === "int8") {
    return 'int8 has no kernels on WebGPU: load with precision: "int4", or with device: "wasm"';
  }
  if (precision === "fp16" && !device.halves) {
    return (
      'fp16 wants the WebGPU feature "shader-f16", which this GPU or browser lacks: load with ' +
      'precision: "int4" or "fp32", or with device: "wasm"'
    );
  }
  return null;
}

/** @param {Exclude<PrecisionChoice, string>} choice */
function checked(choice) {
  const names = typeof choice === "object" && choice ? Object.keys(choice) : null;
  if (names?.every((name) => ["vision", "text"].includes(name))) return choice;
  throw new BareclipError(
    `precision ${short(choice)} must be a name, or name some of vision, text`,
  );
}
