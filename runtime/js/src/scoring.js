/**
 * Scoring, on numbers only: no model, no files.
 *
 * Follows Radford et al. 2021 (CLIP, arXiv 2103.00020), figure 3 and section 3.1.2.
 */

import { VectorError } from "./errors.js";

/** @typedef {ArrayLike<number>} Vector */
/** @typedef {import("./bundle.js").Scoring} Scoring */

// How far from 1 the length of a vector may be that float32 arithmetic made a unit of.
const UNIT_TOLERANCE = 1e-5;

/**
 * @param {Vector} left
 * @param {Vector} right
 * @returns {number} In float64.
 */
export function dot(left, right) {
  let sum = 0;
  for (let place = 0; place < left.length; place++) sum += left[place] * right[place];
  return sum;
}

/**
 * Vectors as rows of length 1; those that are so already keep their bits.
 * @param {ArrayLike<Vector>} vectors (N, D), of any length but zero.
 * @param {string} what What messages call them.
 * @param {number} [width] D; any where it is left out.
 * @returns {Vector[]}
 * @throws {VectorError} Not rows of one width, not finite, or zero.
 */
export function unitRows(vectors, what, width) {
  const rows = Array.from(checkedArray(vectors, what));
  const wanted = width ?? rows[0]?.length ?? 0;
  return rows.map((row, place) => {
    if (row?.length !== wanted) {
      throw new VectorError(
        `${what} have ${row?.length} numbers in row ${place}; give rows of ${wanted}, of the same ` +
          "model as the others",
      );
    }
    const length = Math.sqrt(dot(row, row));
    if (!Number.isFinite(length)) {
      throw new VectorError(`${what} hold NaN or infinity in row ${place}; leave it out`);
    }
    if (length === 0) {
      throw new VectorError(`${what} hold zero in row ${place}: it has no direction to compare`);
    }
    if (Math.abs(length - 1) < UNIT_TOLERANCE) return row;
    return Float64Array.from(row, (value) => value / length);
  });
}

/**
 * @param {ArrayLike<Vector>} vectors
 * @param {string} what
 */
function checkedArray(vectors, what) {
  if (Array.isArray(vectors) && typeof vectors[0] !== "number") return vectors;
  throw new VectorError(
    `${what} are no list of vectors; for one vector of ${vectors?.length ?? 0} numbers pass [vector]`,
  );
}

/**
 * Cosine similarity of every row with every row.
 * @param {ArrayLike<Vector>} left (N, D)
 * @param {ArrayLike<Vector>} right (M, D)
 * @returns {Float32Array[]} (N, M), within [-1, 1].
 * @throws {VectorError} Not rows, of different widths, zero, or not finite.
 */
export function cosine(left, right) {
  const rows = unitRows(left, "left vectors");
  const columns = unitRows(right, "right vectors", rows[0]?.length);
  const clipped = (/** @type {number} */ value) => Math.min(1, Math.max(-1, value));
  return rows.map((row) => Float32Array.from(columns, (column) => clipped(dot(row, column))));
}

/**
 * Exponentials that sum to one; safe for logits of any size.
 * @param {number[]} logits
 * @returns {number[]}
 */
export function softmax(logits) {
  // Subtracting the maximum keeps exp() from overflowing.
  const largest = logits.reduce((most, one) => Math.max(most, one), -Infinity);
  const shifted = logits.map((logit) => Math.exp(logit - largest));
  const sum = shifted.reduce((total, one) => total + one, 0);
  return shifted.map((one) => one / sum);
}

/**
 * Logistic function of each; safe for logits of any size.
 * @param {number[]} logits
 * @returns {number[]}
 */
export function sigmoid(logits) {
  return logits.map((logit) => {
    const small = Math.exp(-Math.abs(logit));
    return (logit >= 0 ? 1 : small) / (1 + small);
  });
}

/**
 * How probable each text is for an image.
 * @param {Vector} image (D,) of length 1.
 * @param {Vector[]} texts (M, D) unit rows.
 * @param {Scoring} scoring The bundle's. Its softmax compares the texts with each other, its
 *   sigmoid judges each alone (SigLIP).
 * @returns {number[]} (M,)
 */
export function probabilities(image, texts, scoring) {
  const factor = Math.exp(scoring.logit_scale);
  const logits = texts.map((text) => factor * dot(image, text) + scoring.logit_bias);
  return scoring.function === "softmax" ? softmax(logits) : sigmoid(logits);
}

/**
 * The mean of some unit vectors, of length 1 again.
 * @param {Vector[]} vectors At least one, of one width.
 * @returns {Float32Array}
 */
export function meanDirection(vectors) {
  const sum = new Float64Array(vectors[0].length);
  for (const vector of vectors) sum.forEach((_, place) => (sum[place] += vector[place]));
  const length = Math.sqrt(dot(sum, sum));
  return Float32Array.from(sum, (value) => (length === 0 ? 0 : value / length));
}

/**
 * Places of the `k` highest scores, best first, ties by place.
 * @param {number[]} scores
 * @param {number} k
 * @returns {number[]}
 */
export function topK(scores, k) {
  const order = scores.map((_, place) => place);
  return order.sort((a, b) => scores[b] - scores[a] || a - b).slice(0, k);
}
