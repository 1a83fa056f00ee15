/** Pictures by the browser's own decoders, as a viewer shows them. */

import { ImageError } from "../errors.js";
import { findProfile } from "./find_profile.js";
import { checkPixels } from "./geometry.js";
import { fetched, isRaw, overWhite, shownRaw, unknownKind } from "./inputs.js";
import { toSrgb } from "./profiles.js";

/** @typedef {import("./resizer.js").Shown} Shown */

/**
 * @param {import("./inputs.js").ImageInput} image
 * @param {number} maxPixels
 * @param {Pick<import("../modules.js").Modules, "lcms">} modules
 * @returns {Promise<Shown>}
 */
export async function decode(image, maxPixels, { lcms }) {
  if (isRaw(image)) return shownRaw(image);
  const blob = await blobOf(image);
  const file = new Uint8Array(await blob.arrayBuffer());
  const { profile, space } = await findProfile(file);
  // No browser tells what inks a picture has: those are left to it.
  const convert = space === "CMYK" ? null : await toSrgb(profile, space, lcms);
  const bitmap = await decoded(blob, space === "CMYK" && profile !== null, file);
  checkPixels(bitmap, maxPixels);
  const { width, height } = bitmap;
  const rows = convert ? convertedRows(bitmap, convert) : rowsOverWhite(bitmap);
  return { width, height, rows, close: () => bitmap.close() };
}

/**
 * @param {import("./inputs.js").ImageInput} image
 * @returns {Promise<Blob>}
 */
async function blobOf(image) {
  if (image instanceof Blob) return image;
  if (typeof image === "string" || image instanceof URL) return await fetched(image);
  if (image instanceof ArrayBuffer) return new Blob([image]);
  if (image instanceof Uint8Array) return new Blob([/** @type {Uint8Array<ArrayBuffer>} */ (image)]);
  throw new ImageError("it is no address, Blob, File, ArrayBuffer, Uint8Array or ImageData");
}

/**
 * @param {Blob} blob
 * @param {boolean} convert Whether the browser follows its colour profile.
 * @param {Uint8Array} file The same.
 */
async function decoded(blob, convert, file) {
  try {
    return await createImageBitmap(blob, {
      imageOrientation: "from-image",
      colorSpaceConversion: convert ? "default" : "none",
      // Else some decoders multiply before they convert, and round twice.
      premultiplyAlpha: "none",
    });
  } catch {
    throw unknownKind(file, "this browser");
  }
}

/**
 * @param {ImageBitmap} bitmap
 * @returns {Shown["rows"]}
 */
function rowsOverWhite(bitmap) {
  return (top, bottom) => {
    const context = contextOf(bitmap.width, bottom - top);
    context.fillStyle = "white";
    context.fillRect(0, 0, bitmap.width, bottom - top);
    return drawn(context, bitmap, top, bottom);
  };
}

/**
 * @param {ImageBitmap} bitmap
 * @param {import("./profiles.js").Convert} convert
 * @returns {Shown["rows"]}
 */
function convertedRows(bitmap, convert) {
  // A canvas multiplies by transparency, which bytes do not bear. Browsers that know of no deeper
  // one are off by some levels where something is nearly transparent.
  const deep = { colorType: "float16" };
  return (top, bottom) =>
    overWhite(convert(drawn(contextOf(bitmap.width, bottom - top, deep), bitmap, top, bottom)));
}

/**
 * @param {OffscreenCanvasRenderingContext2D} context As wide as the bitmap, and as high as the rows.
 * @param {ImageBitmap} bitmap
 * @param {number} top
 * @param {number} bottom
 */
function drawn(context, bitmap, top, bottom) {
  context.drawImage(bitmap, 0, -top);
  return context.getImageData(0, 0, bitmap.width, bottom - top).data;
}

/**
 * @param {number} width
 * @param {number} height
 * @param {object} [options]
 */
function contextOf(width, height, options) {
  const canvas = new OffscreenCanvas(width, height);
  // Read back at once, so it had better not go to a GPU and come back.
  const context = canvas.getContext("2d", { willReadFrequently: true, ...options });
  if (!context) throw new ImageError("this browser has no canvas left to read it with");
  return context;
}
