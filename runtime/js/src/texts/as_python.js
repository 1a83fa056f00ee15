/**
 * What `@huggingface/tokenizers` does otherwise than the Python package of that name, from which
 * a model's ids come.
 */

/** @typedef {(text: string) => string} Normalize */

/**
 * Puts our steps in place of the library's.
 * @param {any} tokenizer The library's.
 */
export function asPython({ normalizer, model }) {
  replaceNormalizers(normalizer);
  if (model.config.type === "Unigram" && model.config.byte_fallback) fallBackOnBytes(model);
}

/** @param {any} normalizer The library's; null for none. */
function replaceNormalizers(normalizer) {
  for (const step of normalizer?.normalizers ?? []) replaceNormalizers(step);
  const { type, precompiled_charsmap: charsmap } = normalizer?.config ?? {};
  if (type === "Lowercase") normalizer.normalize = lowercase;
  if (type === "Precompiled" && charsmap) normalizer.normalize = precompiled(charsmap);
}

/**
 * What no piece covers becomes its bytes; the library does so for BPE alone.
 * @param {any} model
 */
function fallBackOnBytes(model) {
  const encode = model.encode.bind(model);
  const encoder = new TextEncoder();
  const bytes = (/** @type {string} */ piece) =>
    Array.from(encoder.encode(piece), (byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
  model.encode = (/** @type {string[]} */ words) =>
    encode(words).flatMap((/** @type {string} */ piece) =>
      model.tokens_to_ids.has(piece) ? [piece] : bytes(piece),
    );
}

/**
 * A letter at a time: JavaScript makes another sigma of the last one of a word.
 * @type {Normalize}
 */
export function lowercase(text) {
  return text.replaceAll("Σ", "σ").toLowerCase();
}

/**
 * SentencePiece's map, as the Rust crate spm_precompiled reads it: letters with their marks at a
 * time, and those of more than five bytes code point by code point.
 * @param {string} charsmap In base64.
 * @returns {Normalize}
 */
export function precompiled(charsmap) {
  const bytes = Uint8Array.from(atob(charsmap), (letter) => letter.charCodeAt(0));
  const size = new DataView(bytes.buffer).getUint32(0, true);
  const trie = new Uint32Array(bytes.slice(4, 4 + size).buffer);
  const strings = bytes.subarray(4 + size);
  const encoder = new TextEncoder();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const segmenter = new Intl.Segmenter(undefined, { granularity: "grapheme" });

  /** @param {Uint8Array} letters */
  const mapped = (letters) => {
    const start = shortestPrefix(trie, letters);
    return start === null ? null : decoder.decode(strings.subarray(start, strings.indexOf(0, start)));
  };
  /** @param {string} cluster */
  const normalized = (cluster) => {
    const letters = encoder.encode(cluster);
    const whole = letters.length < 6 ? mapped(letters) : null;
    return whole ?? Array.from(cluster, (one) => mapped(encoder.encode(one)) ?? one).join("");
  };
  return (text) => Array.from(segmenter.segment(text), ({ segment }) => normalized(segment)).join("");
}

/**
 * Looks a key up in a double-array trie, as darts-clone lays it out.
 * @param {Uint32Array} trie
 * @param {Uint8Array} key
 * @returns {number | null} The value of the shortest beginning of the key that has one.
 */
function shortestPrefix(trie, key) {
  const offset = (/** @type {number} */ unit) => (unit >>> 10) << ((unit & (1 << 9)) >>> 6);
  let place = offset(trie[0]);
  for (const byte of key) {
    place ^= byte;
    const unit = trie[place];
    if (byte === 0 || (unit & 0x800000ff) !== byte) return null;
    place ^= offset(unit);
    if ((unit >>> 8) & 1) return trie[place] & 0x7fffffff;
  }
  return null;
}
