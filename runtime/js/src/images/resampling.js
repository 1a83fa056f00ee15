/**
 * Pillow's resampling, to the bit: one axis at a time, in whole numbers, as its Resample.c has it.
 * No canvas and no library does the same.
 */

/**
 * @typedef {object} Filter
 * @property {number} support How far it reaches, in pixels of what is smaller.
 * @property {(distance: number) => number} weight
 *
 * @typedef {{first: number, weights: Int32Array}} Window What a pixel sees of a row or column.
 */

const BITS = 22;
const HALF = 1 << (BITS - 1);

/** @type {Record<string, Filter>} */
export const FILTERS = {
  bilinear: { support: 1, weight: (distance) => Math.max(1 - Math.abs(distance), 0) },
  bicubic: { support: 2, weight: cubic },
};

/** @param {number} distance Keys' filter with a = -0.5, its operations in Pillow's order. */
function cubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

/**
 * @param {number} length Of a row or column.
 * @param {number} count How long it is to be.
 * @param {Filter} filter
 * @returns {Window[]}
 */
export function windows(length, count, { support, weight }) {
  const scale = length / count;
  const stretch = Math.max(scale, 1);
  const nearer = 1 / stretch;
  return Array.from({ length: count }, (_, at) => {
    const centre = (at + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support * stretch + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support * stretch + 0.5), length);
    const exact = Array.from({ length: last - first }, (_, seen) =>
      weight((seen + first - centre + 0.5) * nearer),
    );
    const total = exact.reduce((sum, one) => sum + one, 0);
    const rounded = exact.map((one) => (one / total) * (1 << BITS) + (one < 0 ? -0.5 : 0.5));
    return { first, weights: Int32Array.from(rounded, Math.trunc) };
  });
}

/**
 * @param {Uint8Array | Uint8ClampedArray} rgba
 * @param {number} width
 * @param {Window[]} seen Of each pixel of a row that is made.
 * @returns {Uint8ClampedArray} (height, seen, 3)
 */
export function resampledRows(rgba, width, seen) {
  const height = rgba.length / (4 * width);
  const made = new Uint8ClampedArray(height * seen.length * 3);
  for (let y = 0, to = 0; y < height; y++) {
    for (const { first, weights } of seen) {
      let [red, green, blue] = [HALF, HALF, HALF];
      for (let at = 0, from = 4 * (y * width + first); at < weights.length; at++, from += 4) {
        const weight = weights[at];
        red += rgba[from] * weight;
        green += rgba[from + 1] * weight;
        blue += rgba[from + 2] * weight;
      }
      made[to++] = red >> BITS;
      made[to++] = green >> BITS;
      made[to++] = blue >> BITS;
    }
  }
  return made;
}

/**
 * @param {Uint8ClampedArray} rows (height, across)
 * @param {number} across
 * @param {Window[]} seen Of each row that is made.
 * @returns {Uint8ClampedArray} (seen, across)
 */
export function resampledColumns(rows, across, seen) {
  const made = new Uint8ClampedArray(seen.length * across);
  const sums = new Int32Array(across);
  for (const [to, { first, weights }] of seen.entries()) {
    sums.fill(HALF);
    for (const [at, weight] of weights.entries()) {
      const from = (first + at) * across;
      for (let place = 0; place < across; place++) sums[place] += rows[from + place] * weight;
    }
    for (let place = 0; place < across; place++) made[to * across + place] = sums[place] >> BITS;
  }
  return made;
}
