/** What counts as an image. */

import { text } from "../bytes.js";
import { ImageError, reason, short } from "../errors.js";

/**
 * Pixels that are decoded already: RGBA, 8 bits, as `ImageData` has them.
 * @typedef {{data: Uint8Array | Uint8ClampedArray, width: number, height: number}} RawImage
 *
 * An address or, in Node, a path; a file's bytes; or pixels.
 * @typedef {string | URL | Blob | ArrayBuffer | Uint8Array | RawImage} ImageInput
 */

/**
 * @param {unknown} image
 * @returns {string} What messages call it.
 */
export function describe(image) {
  if (typeof image === "string") return short(image);
  if (image instanceof URL) return short(image.href);
  if (typeof File !== "undefined" && image instanceof File) return short(image.name);
  if (image instanceof Blob) return `a Blob of ${image.size} bytes`;
  const bytes = image instanceof ArrayBuffer || image instanceof Uint8Array;
  return bytes ? `${image.byteLength} bytes` : short(image);
}

/**
 * @param {Iterable<unknown>} images
 * @returns {any[]}
 * @throws {ImageError} One image, or nothing that has several.
 */
export function severalImages(images) {
  const one = images instanceof Uint8Array || typeof images === "string";
  if (one || typeof images?.[Symbol.iterator] !== "function") {
    throw new ImageError(`images must be a list; for one image, here ${describe(images)}, pass [image]`);
  }
  return [...images];
}

/**
 * @param {unknown} image
 * @returns {image is RawImage}
 */
export function isRaw(image) {
  const { data, width, height } = /** @type {any} */ (image) ?? {};
  return ArrayBuffer.isView(data) && Number.isInteger(width) && Number.isInteger(height);
}

/**
 * @param {RawImage} image
 * @returns {import("./resizer.js").Shown}
 */
export function shownRaw({ data, width, height }) {
  if (data.BYTES_PER_ELEMENT !== 1 || width < 1 || data.length !== 4 * width * height) {
    throw new ImageError(
      `it has ${data.length} values where ${width}x${height} pixels of RGBA have ` +
        `${4 * width * height}, of 8 bits each`,
    );
  }
  const opaque = overWhite(data);
  return { width, height, rows: (top, bottom) => opaque.subarray(4 * width * top, 4 * width * bottom) };
}

/**
 * Transparent pixels as they look over white, as Pillow's alpha_composite rounds them.
 * @param {Uint8Array | Uint8ClampedArray} rgba
 * @returns {Uint8Array}
 */
export function overWhite(rgba) {
  const shown = Uint8Array.from(rgba);
  for (let place = 0; place < shown.length; place += 4) {
    const alpha = shown[place + 3];
    if (alpha === 255) continue;
    for (let channel = place; channel < place + 3; channel++) {
      const value = (shown[channel] * alpha + 255 * (255 - alpha) + 128) << 7;
      shown[channel] = ((value >> 8) + value) >> 15;
    }
    shown[place + 3] = 255;
  }
  return shown;
}

/**
 * The bytes behind an address.
 * @param {string | URL} address
 * @returns {Promise<Blob>}
 */
export async function fetched(address) {
  const response = await fetch(address);
  if (!response.ok) throw new ImageError(`it was answered with ${response.status}`);
  return await response.blob();
}

/**
 * @param {unknown} error
 * @param {unknown} image
 * @returns {ImageError}
 */
export function unreadable(error, image) {
  return new ImageError(`cannot read image ${describe(image)}: ${reason(error)}`);
}

// How files begin that Python reads and not every decoder here does.
const KINDS = /** @type {[string, RegExp][]} */ ([
  ["a BMP", /^BM/],
  ["a TIFF", /^(II\*\0|MM\0\*)/],
  ["an AVIF", /^.{4}ftypavi[fs]/s],
  ["a HEIC", /^.{4}ftyp(hei|hev|mif1|msf1)/s],
  ["a JPEG 2000", /^(\0\0\0\x0cjP|\xff\x4f\xff\x51)/],
  ["an icon", /^\0\0\x01\0/],
  ["a Photoshop document", /^8BPS/],
  ["a PPM", /^P[1-6]\s/],
]);

/**
 * @param {Uint8Array} file One that cannot be read.
 * @param {string} reader
 * @returns {ImageError}
 */
export function unknownKind(file, reader) {
  const start = text(file, 0, 12);
  const kind = KINDS.find(([, begins]) => begins.test(start))?.[0];
  return new ImageError(
    kind
      ? `it is ${kind}, which ${reader} does not read, or a damaged one: convert it to PNG`
      : `it is in no image format that ${reader} reads, or it is damaged`,
  );
}
