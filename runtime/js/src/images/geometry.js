/** Where a picture's pixels go by a bundle's recipe; arithmetic alone. */

import { ImageError } from "../errors.js";

/** @typedef {import("../bundle.js").ImageRecipe} ImageRecipe */
/** @typedef {{width: number, height: number}} Size */

/** What cameras of 100 megapixels, and phones of 108, make. */
export const MAX_PIXELS = 108 * 1024 * 1024;
// A 60,000 x 1 strip becomes 3 gigapixels when its shorter side grows to 224.
const MAX_CANVAS_PIXELS = 64 * 1024 * 1024;

/**
 * The size after resizing, before the crop.
 * @param {Size} whole
 * @param {ImageRecipe} recipe
 * @returns {Size}
 */
export function resizedSize({ width, height }, recipe) {
  const target = recipe.resize_to;
  if (recipe.resize === "squash") return { width: target, height: target };
  // Truncated, not rounded: torchvision and Hugging Face both do.
  return width <= height
    ? { width: target, height: Math.trunc((target * height) / width) }
    : { width: Math.trunc((target * width) / height), height: target };
}

/**
 * Where the crop begins.
 * @param {Size} resized
 * @param {ImageRecipe} recipe
 * @returns {{left: number, top: number}}
 */
export function cropStart(resized, recipe) {
  const offset = recipe.crop_offset === "floor" ? Math.floor : halfToEven;
  return {
    left: offset((resized.width - recipe.size) / 2),
    top: offset((resized.height - recipe.size) / 2),
  };
}

/**
 * @param {Size} whole
 * @param {number} maxPixels
 * @throws {ImageError} It has more.
 */
export function checkPixels({ width, height }, maxPixels) {
  if (width * height > maxPixels) {
    throw new ImageError(
      `it has ${width}x${height} pixels, more than the ${maxPixels} that are decoded: scale it ` +
        "down first, if it is no decompression bomb",
    );
  }
}

/**
 * @param {Size} whole
 * @param {Size} resized
 * @throws {ImageError} A strip, which would be huge once resized.
 */
export function checkCanvas(whole, resized) {
  // Rows are resized first: a wide picture of a narrow one is as high as that still.
  const between = resized.width > whole.width ? resized.width * whole.height : 0;
  if (Math.max(resized.width * resized.height, between) > MAX_CANVAS_PIXELS) {
    throw new ImageError(
      `it has ${whole.width}x${whole.height} pixels, and resized for this model it would be ` +
        `${resized.width}x${resized.height}, over ${MAX_CANVAS_PIXELS}; crop it first`,
    );
  }
}

/** @param {number} value As Python's round(). */
function halfToEven(value) {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value);
}
