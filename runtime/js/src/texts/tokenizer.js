/** Strings to token ids, by the tokenizer.json that travels in the bundle. */

import { BundleError, TextError, reason, short } from "../errors.js";
import { asPython } from "./as_python.js";
import { cleaner } from "./clean_up.js";

/** @typedef {import("../bundle.js").TextRecipe} TextRecipe */
/** @typedef {import("../modules.js").Modules} Modules */
/** @typedef {(text: string, special: boolean) => number[]} Encode */

// Widths of batches are multiples of this, as in Python.
const STEP = 2;
// Letters of a text that are tokenized at first, a token of the context, and how many times more
// at each further turn. Words have some six.
const LETTERS = 32;
const TURN = 8;
// Letters of a text that are looked at, as in Python.
const MOST_LETTERS = 1_000_000;

/** A checkpoint's own tokenizer. */
export class Tokenizer {
  /** @type {number[]} */ #before;
  /** @type {number[]} */ #after;

  /**
   * @param {Encode} encode
   * @param {import("./clean_up.js").Step} clean
   * @param {TextRecipe} recipe
   */
  constructor(encode, clean, recipe) {
    this.encode = encode;
    this.clean = clean;
    this.recipe = recipe;
    const [bare, framed] = [encode("a", false), encode("a", true)];
    const start = framed.findIndex((_, place) => bare.every((id, next) => framed[place + next] === id));
    const around = framed.length - bare.length;
    if (start < 0 || around < 1 || around >= recipe.context_length) {
      throw new BundleError(
        `its tokenizer puts ${around} tokens around a text, where this model takes ` +
          `${recipe.context_length} in all, one of which ends it: export the bundle again`,
      );
    }
    this.#before = framed.slice(0, start);
    this.#after = framed.slice(start + bare.length);
  }

  /**
   * Reads a tokenizer.json.
   * @param {string} json
   * @param {TextRecipe} recipe
   * @param {readonly import("./clean_up.js").CleanUp[]} leaveOut Steps of the clean-up.
   * @param {Modules} modules
   * @returns {Promise<Tokenizer>}
   * @throws {BundleError} It is none that the library reads.
   */
  static async read(json, recipe, leaveOut, modules) {
    const { Tokenizer: Library } = await modules.tokenizers();
    let library;
    try {
      library = new Library(JSON.parse(json), {});
      asPython(library);
    } catch (error) {
      throw new BundleError(`cannot read tokenizer.json: ${reason(error)}; export the bundle again`);
    }
    /** @type {Encode} */
    const encode = (text, special) => library.encode(text, { add_special_tokens: special }).ids;
    return new Tokenizer(encode, await cleaner(recipe.clean_up, leaveOut, modules.entities), recipe);
  }

  /**
   * Token ids of a text, start and end token included, unpadded.
   * @param {string} text
   * @param {boolean} truncate Cut what exceeds the context length, keeping the end token.
   * @returns {number[]} 1 to `context_length` ids.
   * @throws {TextError} Not a string, half a surrogate pair, or too long where `truncate` is false.
   */
  ids(text, truncate) {
    if (typeof text !== "string") {
      throw new TextError(`a text must be a string, not ${typeof text}: ${short(text)}`);
    }
    if (/\p{Cs}/u.test(text)) {
      throw new TextError(`text ${short(text)} holds half of a surrogate pair; repair it first`);
    }
    const most = this.recipe.context_length - this.#before.length - this.#after.length;
    const { ids, whole } = this.#start(text, most);
    if (ids.length > most && !truncate) {
      throw new TextError(
        `text ${short(text)} has ${whole ? "" : "more than "}${ids.length + this.recipe.context_length - most} ` +
          `tokens; this model takes ${this.recipe.context_length}: shorten it, or pass truncate: true`,
      );
    }
    return [...this.#before, ...ids.slice(0, most), ...this.#after];
  }

  /**
   * Tokens of as much of a text as fills the context, or of all of it.
   * @param {string} text
   * @param {number} most
   */
  #start(text, most) {
    const looked = text.length > MOST_LETTERS ? beginning(text, MOST_LETTERS) : text;
    const cleaned = this.clean(looked);
    // How a word is cut can depend on its end, and on the next one: twice as many and some more
    // are enough that none of those kept depends on what follows.
    const enough = 2 * (most + 2) + 64;
    for (let letters = LETTERS * this.recipe.context_length; ; letters *= TURN) {
      const start = beginning(cleaned, letters);
      const ids = this.#encoded(start);
      if (ids.length > enough || (start.length === cleaned.length && looked === text)) {
        return { ids, whole: start.length === cleaned.length };
      }
      if (start.length === cleaned.length) {
        throw new TextError(
          `text ${short(text)} has ${text.length} letters, the first ${MOST_LETTERS} of which are ` +
            `${ids.length} tokens; cut it`,
        );
      }
    }
  }

  /** @param {string} text */
  #encoded(text) {
    try {
      return text ? this.encode(text, false) : [];
    } catch (error) {
      throw new BundleError(
        `its tokenizer fails on text ${short(text)}: ${reason(error)}; export the bundle again`,
      );
    }
  }

  /**
   * Texts of about one length together, filled up to a length of their own.
   *
   * How far a text is filled up depends on itself alone, so that its vector does not depend on
   * its companions. Texts that begin alike follow each other, since most text towers compute a
   * common beginning once.
   * @param {number[][]} ids Of each text.
   * @param {number} most Texts a batch.
   * @returns {{places: number[], width: number, rows: BigInt64Array}[]} The texts' places in
   *   `ids`, and (places, width) ids.
   */
  batches(ids, most) {
    const { context_length: context, fixed_length: fixed, pad_id: pad } = this.recipe;
    /** @type {Map<number, number[]>} */
    const byWidth = new Map();
    ids.forEach((one, place) => {
      const width = fixed ? context : Math.min(Math.ceil(one.length / STEP) * STEP, context);
      const places = byWidth.get(width);
      if (places) places.push(place);
      else byWidth.set(width, [place]);
    });
    return [...byWidth].flatMap(([width, all]) => {
      all.sort((a, b) => compared(ids[a], ids[b]));
      return chunks(all, most).map((places) => {
        const rows = new BigInt64Array(places.length * width).fill(BigInt(pad));
        places.forEach((place, row) => rows.set(ids[place].map(BigInt), row * width));
        return { places, width, rows };
      });
    });
  }
}

/**
 * A text's beginning of at most that length, up to a space where it has one.
 * @param {string} text
 * @param {number} letters
 */
function beginning(text, letters) {
  if (text.length <= letters) return text;
  // Not with the space: at a text's end it may be a word.
  const cut = text.slice(0, letters);
  const place = Math.max(...[" ", "\n", "\t"].map((space) => cut.lastIndexOf(space)));
  // Nor half of a letter that is two of JavaScript's.
  return place >= letters / 2 ? cut.slice(0, place) : cut.replace(/[\ud800-\udbff]$/, "");
}

/**
 * @param {number[]} left
 * @param {number[]} right
 */
function compared(left, right) {
  const place = left.findIndex((id, at) => id !== right[at]);
  return place < 0 ? left.length - right.length : left[place] - (right[place] ?? -1);
}

/**
 * @template T
 * @param {readonly T[]} items
 * @param {number} size
 * @returns {T[][]}
 */
export function chunks(items, size) {
  const found = [];
  for (let start = 0; start < items.length; start += size) {
    found.push(items.slice(start, start + size));
  }
  return found;
}
