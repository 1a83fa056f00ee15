/**
 * Colour profiles: whether a picture's numbers are to be converted to sRGB.
 *
 * As in Python: a profile that is sRGB's by what it does, within a few levels, changes nothing; any
 * other is followed. What a profile does is asked of the decoder itself, by a picture of sample
 * colours that has the profile.
 */

/** @typedef {(png: Uint8Array<ArrayBuffer>, convert: boolean) => Promise<ArrayLike<number>>} Decode
 *   A PNG to RGBA, its profile followed or not. */

// A press's profiles have up to 3 MB; what is larger is not read.
const MOST_BYTES = 4 * 1024 * 1024;
const CLASSES = ["mntr", "scnr", "prtr", "spac"];
// Levels by which a profile may differ from sRGB, at most and in the mean, and be one.
const SAME = 5;
const SAME_MEAN = 1;

/** Answers by a profile's text; a phone's photos all have the same. */
const known = new Map();

/**
 * Whether a profile is to be followed.
 * @param {Uint8Array | null | undefined} profile
 * @param {Decode} decode
 * @returns {Promise<boolean>} False where it is of no use, or sRGB's.
 */
export async function changesColours(profile, decode) {
  if (!profile || profile.length < 128 || profile.length > MOST_BYTES) return false;
  const space = text(profile, 16, 20);
  if (!CLASSES.includes(text(profile, 12, 16))) return false;
  if (space === "CMYK") return true;
  if (space !== "RGB " && space !== "GRAY") return false;
  const key = text(profile, 0, profile.length);
  if (!known.has(key)) {
    if (known.size >= 16) known.clear();
    known.set(key, await differs(profile, space === "GRAY", decode));
  }
  return known.get(key);
}

/**
 * @param {Uint8Array} profile
 * @param {boolean} grey
 * @param {Decode} decode
 */
async function differs(profile, grey, decode) {
  const png = await samples(profile, grey);
  const [plain, shown] = [await decode(png, false), await decode(png, true)];
  let most = 0;
  let sum = 0;
  for (let place = 0; place < plain.length; place++) {
    const difference = Math.abs(plain[place] - shown[place]);
    most = Math.max(most, difference);
    sum += difference;
  }
  // Of four values a pixel one is alpha.
  return most > SAME || sum / (plain.length * 0.75) > SAME_MEAN;
}

/**
 * A PNG of colours all over a space, with a profile.
 * @param {Uint8Array} profile
 * @param {boolean} grey
 */
async function samples(profile, grey) {
  const greys = Array.from({ length: 256 }, (_, level) => level);
  const steps = [0, 31, 63, 95, 127, 159, 191, 223, 255];
  const colours = steps.flatMap((r) => steps.flatMap((g) => steps.map((b) => [r, g, b])));
  const row = grey ? greys : [...colours, ...greys.map((level) => [level, level, level])].flat();
  const width = grey ? row.length : row.length / 3;
  const head = new Uint8Array(13);
  new DataView(head.buffer).setUint32(0, width);
  head.set([0, 0, 0, 1, 8, grey ? 0 : 2], 4);
  return joined([
    Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
    chunk("IHDR", head),
    chunk("iCCP", joined([bytes("p\0\0"), await deflated(profile)])),
    chunk("IDAT", await deflated(Uint8Array.of(0, ...row))),
    chunk("IEND", new Uint8Array()),
  ]);
}

/**
 * @param {string} name
 * @param {Uint8Array} body
 */
function chunk(name, body) {
  const content = joined([bytes(name), body]);
  const made = new Uint8Array(content.length + 8);
  new DataView(made.buffer).setUint32(0, body.length);
  made.set(content, 4);
  new DataView(made.buffer).setUint32(content.length + 4, crc32(content));
  return made;
}

/** @param {Uint8Array} data As PNG's specification has it, annex D. */
function crc32(data) {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/**
 * @param {Uint8Array} data
 * @returns {Promise<Uint8Array>}
 */
const deflated = (data) => through(data, new CompressionStream("deflate"));

/**
 * @param {Uint8Array} data
 * @param {CompressionStream | DecompressionStream} stream
 */
export async function through(data, stream) {
  const piped = new Blob([/** @type {Uint8Array<ArrayBuffer>} */ (data)]).stream().pipeThrough(stream);
  return new Uint8Array(await new Response(piped).arrayBuffer());
}

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

/** @param {string} letters */
const bytes = (letters) => Uint8Array.from(letters, (letter) => letter.charCodeAt(0));

const LATIN = new TextDecoder("latin1");

/**
 * @param {Uint8Array} data
 * @param {number} start
 * @param {number} end
 */
export function text(data, start, end) {
  return LATIN.decode(data.subarray(start, end));
}
