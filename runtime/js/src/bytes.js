/** Bytes: joined, and read as letters. */

/**
 * @param {Uint8Array[]} parts
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}

const LATIN = new TextDecoder("latin1");

/**
 * @param {Uint8Array} data
 * @param {number} start
 * @param {number} end
 * @returns {string} A letter per byte.
 */
export function text(data, start, end) {
  return LATIN.decode(data.subarray(start, end));
}
