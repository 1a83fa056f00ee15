/** A loaded bundle that embeds: recipe or tokenizer, tower and batching, in this thread. */

import { TOKENIZER, readBundle } from "./bundle.js";
import { joined } from "./bytes.js";
import { BareclipError, BundleError, ImageError, TextError, short } from "./errors.js";
import { Files, readManifest } from "./files.js";
import { describe, severalImages, unreadable } from "./images/inputs.js";
import { Resizer } from "./images/resizer.js";
import { choosePrecision } from "./inference/device.js";
import { Tower } from "./inference/tower.js";
import { Tokenizer, chunks } from "./texts/tokenizer.js";

/** @typedef {import("./bundle.js").Bundle} Bundle */
/** @typedef {import("./images/inputs.js").ImageInput} ImageInput */
/** @typedef {import("./options.js").Options} Options */

/**
 * What is other in browsers and in Node.
 * @typedef {object} Platform
 * @property {import("./modules.js").Modules} modules
 * @property {(options: Options) => Promise<import("./inference/device.js").Device>} device
 * @property {(image: ImageInput, maxPixels: number, modules: import("./modules.js").Modules)
 *   => Promise<import("./images/resizer.js").Shown>} decode
 */

/** @typedef {{index: number, name: string, reason: string}} Failure */
/** @typedef {{vectors: Float32Array[], kept: number[], failures: Failure[]}} PartialEmbeddings */
/** @typedef {"raise" | "skip"} OnError */

/**
 * What a loaded bundle says of itself.
 * @typedef {object} About
 * @property {import("./bundle.js").Manifest} manifest
 * @property {string} place
 * @property {import("./inference/device.js").DeviceName} device
 * @property {number} threads
 * @property {{[tower: string]: string}} precision By tower.
 */

const IMAGE_BATCH = 8;
const TEXT_BATCH = 64;

/** Embeds images and texts. */
export class Engine {
  /** @type {Promise<unknown>} */ #last = Promise.resolve();
  #closed = false;

  /**
   * @param {Bundle} bundle
   * @param {About} about
   * @param {{tower: Tower, resizer: Resizer} | null} vision
   * @param {{tower: Tower, tokenizer: Tokenizer} | null} text
   * @param {Platform} platform
   * @param {Options} options
   */
  constructor(bundle, about, vision, text, platform, options) {
    this.bundle = bundle;
    this.about = about;
    this.vision = vision;
    this.text = text;
    this.platform = platform;
    this.options = options;
  }

  /**
   * Reads a bundle and loads the towers that were asked for.
   * @param {import("./files.js").Source} source
   * @param {import("./files.js").Cache | null} cache
   * @param {Options} options
   * @param {Platform} platform
   * @param {(progress: import("./files.js").Progress) => void} onProgress
   * @returns {Promise<Engine>}
   */
  static async open(source, cache, options, platform, onProgress) {
    const bundle = readBundle(await readManifest(source), source.place);
    const towers = bundle.wanted(options.towers);
    const device = await platform.device(options);
    const precision = Object.fromEntries(
      towers.map((name) => [name, choosePrecision(bundle, name, options.precision, device)]),
    );
    const files = new Files(source, cache, needed(bundle, precision), onProgress);
    let vision = null;
    let text = null;
    // One after another, since each is in memory twice while it is loaded.
    if (towers.includes("vision")) {
      const recipe = bundle.imageRecipe();
      const resizer = new Resizer(recipe);
      vision = { tower: await Tower.load(bundle, "vision", precision.vision, device, files), resizer };
    }
    if (towers.includes("text")) {
      const json = new TextDecoder().decode(await files.read(TOKENIZER));
      const tokenizer = await Tokenizer.read(
        json, bundle.textRecipe(), options.leaveOut, platform.modules,
      );
      text = { tower: await Tower.load(bundle, "text", precision.text, device, files), tokenizer };
    }
    const { manifest, place } = bundle;
    const about = { manifest, place, device: device.name, threads: device.threads, precision };
    return new Engine(bundle, about, vision, text, platform, options);
  }

  /**
   * @param {Iterable<ImageInput>} images
   * @param {OnError} onError
   * @returns {Promise<PartialEmbeddings>}
   */
  embedImages(images, onError) {
    return this.#inTurn(async () => {
      const { tower, resizer } = this.vision ?? notLoaded(this.bundle, "vision");
      const { size } = resizer.recipe;
      /** @type {PartialEmbeddings} */
      const found = { vectors: [], kept: [], failures: [] };
      for (const batch of chunks([...severalImages(images).entries()], most(tower, IMAGE_BATCH))) {
        /** @type {Uint8Array[]} */
        const pixels = [];
        for (const [index, image] of batch) {
          try {
            pixels.push(await this.#pixels(image, resizer));
            found.kept.push(index);
          } catch (error) {
            if (!(error instanceof ImageError) || onError === "raise") throw error;
            found.failures.push({ index, name: describe(image), reason: error.message });
          }
        }
        if (!pixels.length) continue;
        const shape = [pixels.length, size, size, 3];
        found.vectors.push(...(await tower.run("uint8", joined(pixels), shape)));
      }
      return found;
    });
  }

  /**
   * What the model is shown of an image.
   * @param {ImageInput} image
   * @returns {Promise<Uint8Array>} (size, size, 3), RGB.
   */
  pixels(image) {
    return this.#inTurn(async () => {
      const { resizer } = this.vision ?? notLoaded(this.bundle, "vision");
      return await this.#pixels(image, resizer);
    });
  }

  /**
   * @param {Iterable<string>} texts
   * @param {boolean} truncate
   * @returns {Promise<Float32Array[]>}
   */
  embedTexts(texts, truncate) {
    return this.#inTurn(async () => {
      const { tower, tokenizer } = this.text ?? notLoaded(this.bundle, "text");
      if (typeof texts === "string" || typeof texts?.[Symbol.iterator] !== "function") {
        throw new TextError(`texts must be a list; for one text pass [${short(texts)}]`);
      }
      const ids = Array.from(texts, (text) => tokenizer.ids(text, truncate));
      /** @type {Float32Array[]} */
      const vectors = new Array(ids.length);
      for (const { places, width, rows } of tokenizer.batches(ids, most(tower, TEXT_BATCH))) {
        const found = await tower.run("int64", rows, [places.length, width]);
        places.forEach((place, row) => (vectors[place] = found[row]));
      }
      return vectors;
    });
  }

  /** Gives its memory back; after that it answers nothing. */
  async close() {
    if (this.#closed) return;
    const done = this.#inTurn(async () => {
      await this.vision?.tower.close();
      await this.text?.tower.close();
    });
    this.#closed = true;
    await done;
  }

  /**
   * @param {ImageInput} image
   * @param {Resizer} resizer
   */
  async #pixels(image, resizer) {
    const { decode, modules } = this.platform;
    try {
      const shown = await decode(image, this.options.maxPixels, modules);
      try {
        return resizer.pixels(shown);
      } finally {
        shown.close?.();
      }
    } catch (error) {
      throw unreadable(error, image);
    }
  }

  /**
   * One call after another: ONNX Runtime in WebAssembly answers one at a time, and batches of two
   * calls at once would be in memory together.
   * @template T
   * @param {() => Promise<T>} work
   * @returns {Promise<T>}
   */
  #inTurn(work) {
    if (this.#closed) {
      return Promise.reject(new BareclipError("this Clip was closed; load the bundle again"));
    }
    const done = this.#last.then(work);
    // One that fails is no reason for the next to fail.
    this.#last = done.catch(() => {});
    return done;
  }
}

/**
 * How many are embedded at once.
 *
 * Of weights in 8 or 4 bits ONNX Runtime's WebAssembly makes floats, whose products its threads share
 * among them by how many rows there are. Where that leaves a thread 64 columns or fewer it sums in
 * another order: a vector would depend on its companions, so there each is alone.
 * @param {Tower} tower
 * @param {number} usual
 */
function most({ device, precision }, usual) {
  const exact = device.name === "wasm" && precision === "fp32";
  return device.name === "cpu" || device.threads === 1 || exact ? usual : 1;
}

/**
 * @param {Bundle} bundle
 * @param {{[tower: string]: string}} precision
 */
function needed(bundle, precision) {
  /** @type {Record<string, import("./bundle.js").FileRecord>} */
  const records = {};
  for (const [name, at] of Object.entries(precision)) {
    Object.assign(records, bundle.tower(at, /** @type {any} */ (name)).files);
  }
  const { tokenizer } = bundle.manifest;
  return precision.text && tokenizer ? { ...records, [TOKENIZER]: tokenizer } : records;
}

/**
 * @param {Bundle} bundle
 * @param {import("./bundle.js").Tower} tower
 * @returns {never}
 */
function notLoaded(bundle, tower) {
  if (tower === "vision") bundle.imageRecipe();
  else bundle.textRecipe();
  throw new BundleError(
    `this Clip was loaded without its ${tower} tower; load it with towers: ["${tower}"], or ` +
      "without towers",
  );
}
