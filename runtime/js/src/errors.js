/** Every error bareclip raises on purpose. Catch `BareclipError` to catch them all. */

/** One line: what was wrong, what was given, what would be right. */
export class BareclipError extends Error {
  /** @override */
  name = "BareclipError";
}

/** A bundle is missing, damaged, or newer than this version can read. */
export class BundleError extends BareclipError {
  /** @override */
  name = "BundleError";
}

/** An image could not be read; the message names it. */
export class ImageError extends BareclipError {
  /** @override */
  name = "ImageError";
}

/** A text or a prompt template cannot be used as given. */
export class TextError extends BareclipError {
  /** @override */
  name = "TextError";
}

/** Vectors, or a count of them, that cannot be used. */
export class VectorError extends BareclipError {
  /** @override */
  name = "VectorError";
}

/** ONNX Runtime, or the device asked for, is not there. */
export class DeviceError extends BareclipError {
  /** @override */
  name = "DeviceError";
}

const KINDS = { BareclipError, BundleError, ImageError, TextError, VectorError, DeviceError };

/**
 * An error as it crosses from a worker to its page.
 * @param {unknown} error
 * @returns {{name: string, message: string}}
 */
export function packed(error) {
  return error instanceof Error
    ? { name: error.name, message: error.message }
    : { name: "Error", message: String(error) };
}

/**
 * The error that was packed, of its own class again.
 * @param {{name: string, message: string}} error
 * @returns {Error}
 */
export function unpacked({ name, message }) {
  const Kind = Object.hasOwn(KINDS, name) ? KINDS[/** @type {keyof typeof KINDS} */ (name)] : Error;
  return new Kind(message);
}

/**
 * What was given, as messages quote it.
 * @param {unknown} given
 * @returns {string}
 */
export function short(given) {
  if (typeof given === "string") {
    return JSON.stringify(given.length <= 40 ? given : given.slice(0, 37) + "...");
  }
  let shown = String(given);
  try {
    shown = JSON.stringify(given) ?? shown;
  } catch {
    // What JSON cannot hold, such as a BigInt or a cycle, is shown as it names itself.
  }
  return shown.length <= 40 ? shown : shown.slice(0, 37) + "...";
}

/**
 * @param {unknown} error
 * @returns {string} Why something failed, in one line.
 */
export function reason(error) {
  return (error instanceof Error ? error.message : String(error)).split(/\s+/).join(" ").trim();
}
