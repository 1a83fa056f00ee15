/** The colour profile within a picture's file, which browsers do not tell. */

import { joined, text } from "../bytes.js";

/** @typedef {{profile: Uint8Array | null, space: import("./profiles.js").Space}} Found */

// As Python: a PNG's profile of more is left out, however few bytes it is packed in.
const MOST_UNPACKED = 1024 * 1024;

/**
 * @param {Uint8Array<ArrayBuffer>} file JPEG, PNG, WebP or AVIF; others have none that is found.
 * @returns {Promise<Found>} Its profile, if it has one, and what its own numbers are of.
 */
export async function findProfile(file) {
  try {
    if (file[0] === 0xff && file[1] === 0xd8) return inJpeg(file);
    if (text(file, 1, 4) === "PNG") return await inPng(file);
    if (text(file, 0, 4) === "RIFF" && text(file, 8, 12) === "WEBP") return rgb(inWebp(file));
    if (text(file, 4, 8) === "ftyp") return rgb(inBoxes(file, 0, file.length));
  } catch {
    // A broken file is the decoder's to refuse, and a broken profile costs itself only.
  }
  return rgb(null);
}

/**
 * @param {Uint8Array | null} profile
 * @returns {Found}
 */
const rgb = (profile) => ({ profile, space: "RGB" });

/**
 * @param {Uint8Array} file
 * @returns {Found}
 */
function inJpeg(file) {
  const view = viewOf(file);
  /** @type {Uint8Array[]} */
  const parts = [];
  let components = 3;
  for (let place = 2; place + 4 <= file.length; ) {
    const marker = file[place + 1];
    if (file[place] !== 0xff || marker === 0xda || marker === 0xd9) break;
    const end = place + 2 + view.getUint16(place + 2);
    if (marker === 0xe2 && text(file, place + 4, place + 16) === "ICC_PROFILE\0") {
      parts[file[place + 16]] = file.subarray(place + 18, end);
    }
    // A frame's header: C0 to CF but for C4, C8 and CC (ITU-T T.81, table B.1).
    if (marker >> 4 === 0xc && ![0xc4, 0xc8, 0xcc].includes(marker)) components = file[place + 9];
    place = end;
  }
  const found = parts.filter(Boolean);
  const space = components === 1 ? "GRAY" : components === 4 ? "CMYK" : "RGB";
  return { profile: found.length ? joined(found) : null, space };
}

/**
 * @param {Uint8Array<ArrayBuffer>} file
 * @returns {Promise<Found>}
 */
async function inPng(file) {
  const view = viewOf(file);
  // Its type of colours, in the header that comes first: 0 and 4 are grey.
  const space = file[25] % 4 === 0 ? "GRAY" : "RGB";
  for (let place = 8; place + 8 <= file.length; ) {
    const length = view.getUint32(place);
    const name = text(file, place + 4, place + 8);
    const body = file.subarray(place + 8, place + 8 + length);
    if (name === "IDAT") break;
    // A name that ends with 0, and the way of compression, come first.
    if (name === "iCCP") return { profile: await unpacked(body.subarray(body.indexOf(0) + 2)), space };
    place += length + 12;
  }
  return { profile: null, space };
}

/**
 * @param {Uint8Array<ArrayBuffer>} data
 * @returns {Promise<Uint8Array | null>} Null where it is too much.
 */
async function unpacked(data) {
  const reader = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const parts = [];
  for (let size = 0; ; ) {
    const { done, value } = await reader.read();
    if (done) return joined(parts);
    parts.push(value);
    size += value.length;
    if (size > MOST_UNPACKED) {
      await reader.cancel();
      return null;
    }
  }
}

/** @param {Uint8Array} file */
function inWebp(file) {
  const view = viewOf(file);
  for (let place = 12; place + 8 <= file.length; ) {
    const length = view.getUint32(place + 4, true);
    if (text(file, place, place + 4) === "ICCP") return file.subarray(place + 8, place + 8 + length);
    place += 8 + length + (length % 2);
  }
  return null;
}

// Boxes that hold others, and how many bytes of theirs come before those (ISO/IEC 14496-12).
const HOLDERS = /** @type {Record<string, number>} */ ({ meta: 4, iprp: 0, ipco: 0 });

/**
 * @param {Uint8Array} file
 * @param {number} start
 * @param {number} end
 * @returns {Uint8Array | null}
 */
function inBoxes(file, start, end) {
  const view = viewOf(file);
  for (let place = start; place + 8 <= end; ) {
    const length = view.getUint32(place);
    const name = text(file, place + 4, place + 8);
    const stop = place + length;
    if (length < 8 || stop > end) return null;
    if (name === "colr" && ["prof", "rICC"].includes(text(file, place + 8, place + 12))) {
      return file.subarray(place + 12, stop);
    }
    if (Object.hasOwn(HOLDERS, name)) {
      const found = inBoxes(file, place + 8 + HOLDERS[name], stop);
      if (found) return found;
    }
    place = stop;
  }
  return null;
}

/** @param {Uint8Array} file */
function viewOf(file) {
  return new DataView(file.buffer, file.byteOffset, file.byteLength);
}
