/**
 * Colour profiles: from what a picture's numbers mean to sRGB, by LittleCMS, as in Python.
 *
 * What browsers and libvips make of a profile differs by a level, and from each other. LittleCMS
 * comes as WebAssembly, and is fetched when a picture first has a profile.
 */

import { text } from "../bytes.js";
import { ImageError, reason } from "../errors.js";

/**
 * @typedef {"RGB" | "GRAY" | "CMYK"} Space What a picture's numbers are of.
 *
 * @typedef {(pixels: Uint8Array | Uint8ClampedArray) => Uint8Array} Convert RGBA, with grey in each
 *   of the three, or CMYK, to RGBA in sRGB; alpha stays.
 *
 * @typedef {Record<string, any>} Instance LittleCMS in a memory of its own.
 *
 * @typedef {Record<string, any> & {instantiate: (options: object) => Promise<Instance>}} Library
 */

// A press's profiles have up to 3 MB; what is larger is not read.
const MOST_BYTES = 4 * 1024 * 1024;
const CLASSES = ["mntr", "scnr", "prtr", "spac"];
// Levels by which a profile may differ from sRGB, at most and in the mean, and be one.
const SAME = 5;
const SAME_MEAN = 1;
// Pixels that are converted at a time.
const PART = 1 << 16;

/** Answers by a profile's text; a phone's photos all have the same. @type {Map<string, Convert | null>} */
const known = new Map();
/** @type {{library: Library, instance: Instance, room: number} | null} */
let loaded = null;

/**
 * What turns a picture's numbers into sRGB: perceptually, as Python does.
 * @param {Uint8Array | null | undefined} profile
 * @param {Space} space The picture's.
 * @param {() => Promise<unknown>} load Imports lcms-wasm.
 * @returns {Promise<Convert | null>} Null where they are sRGB's already, or the profile is of no
 *   use: broken, too large, or of another space. It costs the profile then, not the picture.
 * @throws {ImageError} LittleCMS cannot be loaded.
 */
export async function toSrgb(profile, space, load) {
  if (!profile || profile.length < 128 || profile.length > MOST_BYTES) return null;
  const named = text(profile, 16, 20).trimEnd();
  if (!CLASSES.includes(text(profile, 12, 16)) || named !== space) return null;
  const key = text(profile, 0, profile.length);
  let convert = known.get(key);
  if (convert === undefined) {
    if (known.size >= 16) forget();
    convert = await made(profile, space, load);
    known.set(key, convert);
  }
  return convert;
}

/** Transforms that are in use keep the memory that they are in; the next ones get another. */
function forget() {
  known.clear();
  loaded = null;
}

/**
 * @param {Uint8Array} profile
 * @param {Space} space
 * @param {() => Promise<unknown>} load
 * @returns {Promise<Convert | null>}
 */
async function made(profile, space, load) {
  loaded ??= await instantiated(load);
  try {
    const convert = transform(loaded, profile, space);
    return convert && (space === "CMYK" || !isSame(convert, space)) ? convert : null;
  } catch {
    // A profile that makes LittleCMS fail leaves a memory that is not to be trusted.
    forget();
    return null;
  }
}

/** @param {() => Promise<unknown>} load */
async function instantiated(load) {
  try {
    const library = /** @type {Library} */ (await load());
    // What it says of a broken profile is for no console.
    const instance = await library.instantiate({ print: () => {}, printErr: () => {} });
    return { library, instance, room: instance._malloc(4 * PART) };
  } catch (error) {
    throw new ImageError(
      `it has a colour profile, which wants lcms-wasm, and that cannot be loaded (${reason(error)}): ` +
        "npm install lcms-wasm, and name it in the page's import map",
    );
  }
}

/**
 * By the functions of lcms2.h themselves: what wraps them takes a profile on a small stack.
 * @param {{library: Library, instance: Instance, room: number}} loaded
 * @param {Uint8Array} profile
 * @param {Space} space
 * @returns {Convert | null} Null where LittleCMS makes nothing of the profile.
 */
function transform({ library, instance, room }, profile, space) {
  const { COLORSPACE_SH, CHANNELS_SH, EXTRA_SH, BYTES_SH, PT_GRAY, TYPE_CMYK_8, TYPE_RGBA_8 } = library;
  const from = {
    RGB: TYPE_RGBA_8,
    CMYK: TYPE_CMYK_8,
    GRAY: COLORSPACE_SH(PT_GRAY) | CHANNELS_SH(1) | EXTRA_SH(3) | BYTES_SH(1),
  };
  const copy = instance._malloc(profile.length);
  instance.HEAPU8.set(profile, copy);
  const source = instance._cmsOpenProfileFromMem(copy, profile.length);
  instance._free(copy);
  if (!source) return null;
  const srgb = instance._cmsCreate_sRGBProfile();
  const perceptual = 0;
  const noCache = 0x40;
  const handle = instance._cmsCreateTransform(source, from[space], srgb, TYPE_RGBA_8, perceptual, noCache);
  instance._cmsCloseProfile(source);
  instance._cmsCloseProfile(srgb);
  if (!handle) return null;
  return (pixels) => {
    const shown = new Uint8Array(pixels.length);
    for (let start = 0; start < pixels.length; start += 4 * PART) {
      const part = pixels.subarray(start, start + 4 * PART);
      // Memory that has grown is another array.
      instance.HEAPU8.set(part, room);
      instance._cmsDoTransform(handle, room, room, part.length / 4);
      shown.set(instance.HEAPU8.subarray(room, room + part.length), start);
    }
    if (space === "CMYK") for (let place = 3; place < shown.length; place += 4) shown[place] = 255;
    return shown;
  };
}

/**
 * Whether colours all over a space stay as they are.
 * @param {Convert} convert
 * @param {Space} space
 */
function isSame(convert, space) {
  const steps = [0, 31, 63, 95, 127, 159, 191, 223, 255];
  const grid = steps.flatMap((r) => steps.flatMap((g) => steps.map((b) => [r, g, b, 255])));
  const greys = Array.from({ length: 256 }, (_, level) => [level, level, level, 255]);
  const plain = Uint8Array.from((space === "GRAY" ? greys : [...grid, ...greys]).flat());
  const differences = convert(plain).map((value, place) => Math.abs(value - plain[place]));
  const sum = differences.reduce((total, one) => total + one, 0);
  // Of four values a pixel one is alpha.
  return Math.max(...differences) <= SAME && sum / (plain.length * 0.75) <= SAME_MEAN;
}

