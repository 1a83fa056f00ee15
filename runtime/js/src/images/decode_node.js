/** Pictures by sharp, as a viewer shows them. */

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { ImageError, reason } from "../errors.js";
import { checkPixels } from "./geometry.js";
import { fetched, isRaw, overWhite, shownRaw, unknownKind } from "./inputs.js";
import { toSrgb } from "./profiles.js";

/** @typedef {import("./resizer.js").Shown} Shown */
/** @typedef {typeof import("sharp").default} Sharp */

// Those that Python opens too. SVG is a program, and others are met in hostile files only.
const FORMATS = ["jpeg", "png", "webp", "gif", "tiff", "heif", "jp2"];

/**
 * @param {import("./inputs.js").ImageInput} image
 * @param {number} maxPixels
 * @param {Pick<import("../modules.js").Modules, "lcms">} modules
 * @returns {Promise<Shown>}
 */
export async function decode(image, maxPixels, { lcms }) {
  if (isRaw(image)) return shownRaw(image);
  const file = await bytesOf(image);
  const sharp = await library();
  const about = await metadata(sharp, file);
  checkPixels({ width: about.width, height: about.height }, maxPixels);
  // libvips would follow a profile by itself, and in another way.
  const open = sharp(file, { limitInputPixels: maxPixels, failOn: "error", ignoreIcc: true });
  const decoded = await read(open.autoOrient(), about);
  const space = spaceOf(about);
  const convert = await toSrgb(about.icc, space, lcms);
  const { width, height } = decoded.info;
  const pixels = overWhite(inSrgb(decoded, space, convert));
  return { width, height, rows: (top, bottom) => pixels.subarray(4 * width * top, 4 * width * bottom) };
}

/** @typedef {{data: Uint8Array, info: import("sharp").OutputInfo}} Raw */

/**
 * @param {Sharp} sharp
 * @param {Uint8Array} file
 * @throws {ImageError} It is of no kind that is read.
 */
async function metadata(sharp, file) {
  /** @type {import("sharp").Metadata} */
  let about;
  try {
    about = await sharp(file, { limitInputPixels: false }).metadata();
  } catch {
    throw unknownKind(file, "sharp");
  }
  // HEIC is known to libvips, and read by builds of it that one makes oneself.
  if (about.compression === "hevc") throw unknownKind(file, "sharp");
  if (FORMATS.includes(about.format ?? "")) return about;
  throw new ImageError(`its format is ${about.format}; those that are read are ${FORMATS.join(", ")}`);
}

/**
 * @param {import("sharp").Metadata} about
 * @returns {import("./profiles.js").Space}
 */
function spaceOf({ space, channels }) {
  return space === "cmyk" ? "CMYK" : channels < 3 ? "GRAY" : "RGB";
}

/**
 * @param {import("sharp").Sharp} open
 * @param {import("sharp").Metadata} about
 * @returns {Promise<Raw>} 8 bits of what is stored; inks stay inks.
 */
async function read(open, about) {
  if (spaceOf(about) === "CMYK") {
    return await raw(open.pipelineColourspace("cmyk").toColourspace("cmyk"));
  }
  if (about.depth === "ushort" && about.channels === 1) {
    const deep = open.toColourspace("grey16").raw({ depth: "ushort" });
    return fromGrey16(await deep.toBuffer({ resolveWithObject: true }));
  }
  return await raw(open.toColourspace("srgb"));
}

/**
 * @param {Raw} decoded
 * @param {import("./profiles.js").Space} space
 * @param {import("./profiles.js").Convert | null} convert
 * @returns {Uint8Array} RGBA, in sRGB.
 */
function inSrgb(decoded, space, convert) {
  const inks = space === "CMYK" && !(convert && decoded.info.channels === 4);
  const pixels = rgba(inks ? fromCmyk(decoded) : decoded);
  return convert && !inks ? convert(pixels) : pixels;
}

/**
 * @param {import("sharp").Sharp} open
 * @returns {Promise<Raw>}
 */
async function raw(open) {
  return await open.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
}

/**
 * Grey of 16 bits, rounded as Python does, where libvips cuts.
 * @param {Raw} decoded
 * @returns {Raw}
 */
function fromGrey16({ data, info }) {
  const copy = Uint8Array.from(data);
  const values = new Uint16Array(copy.buffer);
  return { data: Uint8Array.from(values, (value) => Math.round(value / 257)), info };
}

/**
 * Inks without a profile, converted plainly, where libvips takes a profile of its own.
 * @param {Raw} decoded
 * @returns {Raw}
 */
function fromCmyk({ data, info }) {
  const found = new Uint8Array(3 * info.width * info.height);
  for (let from = 0, to = 0; to < found.length; from += info.channels, to += 3) {
    const light = 255 - data[from + 3];
    for (let ink = 0; ink < 3; ink++) {
      const product = data[from + ink] * light + 128;
      found[to + ink] = Math.max(0, light - (((product >> 8) + product) >> 8));
    }
  }
  return { data: found, info: { ...info, channels: 3 } };
}

/**
 * @param {Raw} decoded Of 1 to 4 channels: grey or RGB, with alpha or without.
 * @returns {Uint8Array}
 */
function rgba({ data, info: { channels, width, height } }) {
  if (channels === 4) return data;
  const made = new Uint8Array(4 * width * height).fill(255);
  const colours = channels < 3 ? 1 : 3;
  for (let from = 0, to = 0; to < made.length; from += channels, to += 4) {
    for (let colour = 0; colour < 3; colour++) {
      made[to + colour] = data[from + (colours === 1 ? 0 : colour)];
    }
    if (channels === 2) made[to + 3] = data[from + 1];
  }
  return made;
}

/**
 * @param {import("./inputs.js").ImageInput} image
 * @returns {Promise<Uint8Array>}
 */
async function bytesOf(image) {
  if (typeof image === "string" && !/^(https?|file|data|blob):/.test(image)) {
    return await readFile(image);
  }
  if (typeof image === "string" || image instanceof URL) {
    const url = new URL(image);
    if (url.protocol === "file:") return await readFile(fileURLToPath(url));
    return new Uint8Array(await (await fetched(url)).arrayBuffer());
  }
  if (image instanceof Blob) return new Uint8Array(await image.arrayBuffer());
  if (image instanceof ArrayBuffer) return new Uint8Array(image);
  if (image instanceof Uint8Array) return image;
  throw new ImageError("it is no path, address, Blob, ArrayBuffer, Uint8Array or pixels");
}

/** @returns {Promise<Sharp>} */
async function library() {
  try {
    return (await import("sharp")).default;
  } catch (error) {
    throw new ImageError(
      `pictures are decoded by sharp in Node, which cannot be loaded (${reason(error)}): ` +
        "npm install sharp",
    );
  }
}
