/** Pictures by the browser's own decoders, as a viewer shows them. */

import { ImageError } from "../errors.js";
import { findProfile } from "./find_profile.js";
import { checkPixels } from "./geometry.js";
import { fetched, isRaw, shownRaw } from "./inputs.js";
import { changesColours } from "./profiles.js";

/** @typedef {import("./resizer.js").Shown} Shown */

/**
 * @param {import("./inputs.js").ImageInput} image
 * @param {number} maxPixels
 * @returns {Promise<Shown>}
 */
export async function decode(image, maxPixels) {
  if (isRaw(image)) return shownRaw(image);
  const blob = await blobOf(image);
  const profile = await findProfile(new Uint8Array(await blob.arrayBuffer()));
  const convert = await changesColours(profile, async (png, follow) => {
    const bitmap = await decoded(new Blob([png]), follow);
    return canvasOf(bitmap)(0, bitmap.height);
  });
  const bitmap = await decoded(blob, convert);
  checkPixels(bitmap, maxPixels);
  const { width, height } = bitmap;
  return { width, height, rows: canvasOf(bitmap), close: () => bitmap.close() };
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
 * @param {boolean} convert Whether its colour profile is followed.
 */
async function decoded(blob, convert) {
  try {
    return await createImageBitmap(blob, {
      imageOrientation: "from-image",
      colorSpaceConversion: convert ? "default" : "none",
      // Else some decoders multiply before they convert, and round twice.
      premultiplyAlpha: "none",
    });
  } catch {
    throw new ImageError("it is in no image format that this browser reads, or it is damaged");
  }
}

/**
 * What reads rows of a bitmap, over white.
 * @param {ImageBitmap} bitmap
 * @returns {Shown["rows"]}
 */
function canvasOf(bitmap) {
  return (top, bottom) => {
    const canvas = new OffscreenCanvas(bitmap.width, bottom - top);
    // Read back at once, so it had better not go to a GPU and come back.
    const context = canvas.getContext("2d", { willReadFrequently: true });
    if (!context) throw new ImageError("this browser has no canvas left to read it with");
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, -top);
    return context.getImageData(0, 0, canvas.width, canvas.height).data;
  };
}
