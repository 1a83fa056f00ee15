/** A decoded picture to the pixels that the vision tower takes. */

import { BundleError } from "../errors.js";
import { checkCanvas, cropStart, resizedSize } from "./geometry.js";
import { FILTERS, resampledColumns, resampledRows, windows } from "./resampling.js";

/** @typedef {import("../bundle.js").ImageRecipe} ImageRecipe */

/**
 * A decoded picture, upright, in sRGB, over white.
 * @typedef {object} Shown
 * @property {number} width
 * @property {number} height
 * @property {(top: number, bottom: number) => Uint8Array | Uint8ClampedArray} rows
 *   Some of its rows, as RGBA.
 * @property {() => void} [close] Gives its memory back.
 */

// Pixels that are converted and resized at a time: what that takes besides the picture itself.
const STRIP_PIXELS = 4 * 1024 * 1024;

/** Resizes and crops by a recipe. */
export class Resizer {
  #filter;

  /**
   * @param {ImageRecipe} recipe
   * @throws {BundleError} An interpolation that is not here.
   */
  constructor(recipe) {
    this.recipe = recipe;
    this.#filter = FILTERS[recipe.interpolation];
    if (!this.#filter) {
      throw new BundleError(
        `this bundle resizes its pictures by ${recipe.interpolation}, which bareclip has in Python ` +
          `only; in JavaScript it has ${Object.keys(FILTERS).join(" and ")}`,
      );
    }
  }

  /**
   * @param {Shown} shown
   * @returns {Uint8Array} (size, size, 3), RGB.
   */
  pixels(shown) {
    const resized = resizedSize(shown, this.recipe);
    checkCanvas(shown, resized);
    const across = 3 * resized.width;
    const columns = windows(shown.height, resized.height, this.#filter);
    const small = resampledColumns(this.#narrowed(shown, resized.width), across, columns);
    const { size } = this.recipe;
    const { left, top } = cropStart(resized, this.recipe);
    const pixels = new Uint8Array(3 * size * size);
    for (let y = 0; y < size; y++) {
      const from = (top + y) * across + 3 * left;
      pixels.set(small.subarray(from, from + 3 * size), 3 * size * y);
    }
    return pixels;
  }

  /**
   * The picture (height, width, 3), of another width and its own height: rows first, as every
   * recipe means it. In strips, so that a large picture needs no further large memory.
   * @param {Shown} shown
   * @param {number} width
   */
  #narrowed(shown, width) {
    const narrow = new Uint8ClampedArray(3 * shown.height * width);
    const seen = windows(shown.width, width, this.#filter);
    const rows = Math.max(1, Math.floor(STRIP_PIXELS / Math.max(shown.width, width)));
    for (let top = 0; top < shown.height; top += rows) {
      const strip = shown.rows(top, Math.min(top + rows, shown.height));
      narrow.set(resampledRows(strip, shown.width, seen), 3 * top * width);
    }
    return narrow;
  }
}
