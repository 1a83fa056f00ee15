/**
 * What some models do to a text before their tokenizer sees it, a named step at a time.
 *
 * The bundle names the steps. One of them, `fix_text`, is ftfy's, a library that only Python has:
 * texts that it certainly leaves as they are pass, others are refused by name.
 */

import { TextError, short } from "../errors.js";

/** @typedef {import("../bundle.js").CleanUp} CleanUp */
/** @typedef {import("../modules.js").Modules} Modules */
/** @typedef {(text: string) => string} Step */

// What Python's str.split() takes for space; that of JavaScript has U+FEFF and lacks controls.
const SPACES = /[\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;
// The same as Python's html.unescape looks for.
const REFERENCE = /&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)/g;
// What ftfy may change: all but printable ASCII and line feeds, and what looks like an entity.
const ftfyMayChange = (/** @type {string} */ text) =>
  /[^\n\x20-\x7e]/.test(text) || /&#?[0-9A-Za-z]{1,24};/.test(text);

/**
 * What does the steps of a bundle, one after another.
 * @param {readonly CleanUp[]} steps
 * @param {readonly CleanUp[]} leftOut Those that the caller does without.
 * @param {Modules["entities"]} entities
 * @returns {Promise<Step>}
 */
export async function cleaner(steps, leftOut, entities) {
  const done = steps.filter((step) => !leftOut.includes(step));
  /** @type {Record<CleanUp, Step>} */
  const known = {
    fix_text: unrepaired,
    unescape_html: done.includes("unescape_html") ? await unescaper(entities) : (text) => text,
    underscores_to_spaces: (text) => text.replaceAll("_", " "),
    remove_punctuation: (text) => text.replace(/[!-/:-@[-`{-~]/g, ""),
    lowercase: (text) => text.toLowerCase(),
    collapse_whitespace: (text) => text.split(SPACES).filter(Boolean).join(" "),
    sep_to_pad: (text) => text.replaceAll("[SEP]", "[PAD]"),
  };
  return (text) => done.reduce((found, step) => known[step](found), text);
}

/** @type {Step} */
function unrepaired(text) {
  if (!ftfyMayChange(text)) return text;
  throw new TextError(
    `text ${short(text)} would go through "fix_text", a repair by Python's ftfy that JavaScript ` +
      'lacks; give plain ASCII, or load with leaveOut: ["fix_text"] and get another vector than ' +
      "the model's where ftfy changes a text",
  );
}

/**
 * Python's html.unescape, done twice, as OpenAI and OpenCLIP do: &amp;lt; is a <.
 * @param {Modules["entities"]} entities
 * @returns {Promise<Step>}
 */
async function unescaper(entities) {
  // Its table of names is large, and few models want it.
  const { decodeHTML } = await entities();
  const once = (/** @type {string} */ text) =>
    text.replace(REFERENCE, (whole, name) => (name[0] === "#" ? numbered(name) : decodeHTML(whole)));
  return (text) => once(once(text));
}

// What the numbers from 0x80 mean on Windows. Not by a TextDecoder: Node's is Latin 1's.
const WINDOWS = "€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ";

/**
 * The letter of a number, as HTML 5 reads it, and nothing for one that is none.
 * @param {string} name Such as `#65;` or `#x41`.
 */
function numbered(name) {
  const digits = name.replace(";", "").slice(1);
  const code = /^[xX]/.test(digits) ? parseInt(digits.slice(1), 16) : parseInt(digits, 10);
  if (code >= 0x80 && code <= 0x9f) return WINDOWS[code - 0x80];
  if (code === 0 || (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff) return "\ufffd";
  const control = code < 0x20 && ![0x9, 0xa, 0xc, 0xd].includes(code);
  const none = (code >= 0xfdd0 && code <= 0xfdef) || (code & 0xfffe) === 0xfffe;
  return control || code === 0x7f || none ? "" : String.fromCodePoint(code);
}
