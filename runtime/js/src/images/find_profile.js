/** The colour profile within a picture's file, which browsers do not tell. */

import { joined, text, through } from "./profiles.js";

/**
 * @param {Uint8Array<ArrayBuffer>} file JPEG, PNG, WebP or AVIF; others have none that is found.
 * @returns {Promise<Uint8Array | null>}
 */
export async function findProfile(file) {
  try {
    if (file[0] === 0xff && file[1] === 0xd8) return inJpeg(file);
    if (text(file, 1, 4) === "PNG") return await inPng(file);
    if (text(file, 0, 4) === "RIFF" && text(file, 8, 12) === "WEBP") return inWebp(file);
    if (text(file, 4, 8) === "ftyp") return inBoxes(file, 0, file.length);
  } catch {
    // A broken file is the decoder's to refuse, and a broken profile costs itself only.
  }
  return null;
}

/** @param {Uint8Array} file */
function inJpeg(file) {
  const view = viewOf(file);
  /** @type {Uint8Array[]} */
  const parts = [];
  for (let place = 2; place + 4 <= file.length; ) {
    const marker = file[place + 1];
    if (file[place] !== 0xff || marker === 0xda || marker === 0xd9) break;
    const end = place + 2 + view.getUint16(place + 2);
    if (marker === 0xe2 && text(file, place + 4, place + 16) === "ICC_PROFILE\0") {
      parts[file[place + 16]] = file.subarray(place + 18, end);
    }
    place = end;
  }
  const found = parts.filter(Boolean);
  return found.length ? joined(found) : null;
}

/** @param {Uint8Array} file */
async function inPng(file) {
  const view = viewOf(file);
  for (let place = 8; place + 8 <= file.length; ) {
    const length = view.getUint32(place);
    const name = text(file, place + 4, place + 8);
    const body = file.subarray(place + 8, place + 8 + length);
    if (name === "IDAT") break;
    // A name that ends with 0, and the way of compression, come first.
    if (name === "iCCP") {
      return await through(body.subarray(body.indexOf(0) + 2), new DecompressionStream("deflate"));
    }
    place += length + 12;
  }
  return null;
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
