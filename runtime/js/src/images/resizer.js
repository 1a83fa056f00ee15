/**
 * A decoded picture to the pixels that the vision tower takes.
 *
 * Resized by ONNX Runtime, since no canvas does what Pillow does, and each does something else.
 * Always on the CPU: other providers ignore what the graph says of the filter.
 */

import { BundleError } from "../errors.js";
import { checkCanvas, cropStart, resizedSize } from "./geometry.js";
import { RESIZE_GRAPHS } from "./resize_graphs.js";

/** @typedef {import("../bundle.js").ImageRecipe} ImageRecipe */
/** @typedef {import("../modules.js").Ort} Ort */

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
  /**
   * @param {Ort} ort
   * @param {import("onnxruntime-common").InferenceSession} session
   * @param {ImageRecipe} recipe
   */
  constructor(ort, session, recipe) {
    this.ort = ort;
    this.session = session;
    this.recipe = recipe;
  }

  /**
   * @param {Ort} ort
   * @param {string} provider The CPU's.
   * @param {ImageRecipe} recipe
   * @returns {Promise<Resizer>}
   * @throws {BundleError} An interpolation that ONNX Runtime has not as Pillow has it.
   */
  static async make(ort, provider, recipe) {
    const { interpolation } = recipe;
    if (interpolation !== "bicubic" && interpolation !== "bilinear") {
      throw new BundleError(
        `this bundle resizes its pictures by ${interpolation}, which bareclip has in Python only; ` +
          "in JavaScript it has bicubic and bilinear",
      );
    }
    const graph = Uint8Array.from(atob(RESIZE_GRAPHS[interpolation]), (one) => one.charCodeAt(0));
    const session = await ort.InferenceSession.create(graph, { executionProviders: [provider] });
    return new Resizer(ort, session, recipe);
  }

  /**
   * @param {Shown} shown
   * @returns {Promise<Uint8Array>} (size, size, 3), RGB.
   */
  async pixels(shown) {
    const resized = resizedSize(shown, this.recipe);
    checkCanvas(shown, resized);
    const narrow = await this.#narrowed(shown, resized.width);
    const planes = await this.#resized(narrow, shown.height, resized.width, resized);
    return this.#cropped(planes, resized);
  }

  /**
   * The picture in planes of red, green and blue, of another width and its own height: rows first,
   * as every recipe means it. In strips, so that a large picture needs no further large memory.
   * @param {Shown} shown
   * @param {number} width
   */
  async #narrowed(shown, width) {
    const planes = new Uint8Array(3 * shown.height * width);
    const rows = Math.max(1, Math.floor(STRIP_PIXELS / Math.max(shown.width, width)));
    for (let top = 0; top < shown.height; top += rows) {
      const bottom = Math.min(top + rows, shown.height);
      const height = bottom - top;
      const strip = planar(shown.rows(top, bottom), shown.width * height);
      const found = await this.#resized(strip, height, shown.width, { width, height });
      for (let plane = 0; plane < 3; plane++) {
        const part = found.subarray(plane * height * width, (plane + 1) * height * width);
        planes.set(part, (plane * shown.height + top) * width);
      }
    }
    return planes;
  }

  /**
   * @param {Uint8Array} planes (3, height, width)
   * @param {number} height
   * @param {number} width
   * @param {import("./geometry.js").Size} to
   */
  async #resized(planes, height, width, to) {
    if (to.width === width && to.height === height) return planes;
    const { Tensor } = this.ort;
    const sizes = BigInt64Array.from([1, 3, to.height, to.width], BigInt);
    const { resized } = await this.session.run({
      pixels: new Tensor("uint8", planes, [1, 3, height, width]),
      sizes: new Tensor("int64", sizes, [4]),
    });
    const data = /** @type {Uint8Array} */ (resized.data);
    resized.dispose();
    return data;
  }

  /**
   * @param {Uint8Array} planes (3, height, width)
   * @param {import("./geometry.js").Size} resized
   */
  #cropped(planes, { width, height }) {
    const { size } = this.recipe;
    const { left, top } = cropStart({ width, height }, this.recipe);
    const pixels = new Uint8Array(3 * size * size);
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) {
        for (let plane = 0; plane < 3; plane++) {
          const from = (plane * height + top + y) * width + left + x;
          pixels[3 * (y * size + x) + plane] = planes[from];
        }
      }
    }
    return pixels;
  }
}

/**
 * @param {Uint8Array | Uint8ClampedArray} rgba
 * @param {number} count Pixels.
 */
function planar(rgba, count) {
  const planes = new Uint8Array(3 * count);
  for (let from = 0, to = 0; to < count; from += 4, to++) {
    planes[to] = rgba[from];
    planes[to + count] = rgba[from + 1];
    planes[to + 2 * count] = rgba[from + 2];
  }
  return planes;
}
