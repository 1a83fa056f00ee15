/**
 * The bundle: one folder that holds a converted model and every constant it needs.
 *
 * `bundle.json` is read as strictly as Python reads it: what this version does not know, it
 * refuses by name. This module knows JSON; it opens no file and loads no model.
 */

import { BareclipError, BundleError, short } from "./errors.js";
import {
  boolean, dictionary, float, integer, list, nullable, object, oneOf, string,
} from "./strict_json.js";

/** @typedef {"vision" | "text"} Tower */
/** @typedef {ReturnType<typeof MANIFEST_KIND>} Manifest */
/** @typedef {ReturnType<typeof fileRecord>} FileRecord */
/** @typedef {NonNullable<Manifest["image"]>} ImageRecipe */
/** @typedef {NonNullable<Manifest["text"]>} TextRecipe */
/** @typedef {Manifest["scoring"]} Scoring */
/** @typedef {TextRecipe["clean_up"][number]} CleanUp */

export const MANIFEST = "bundle.json";
export const TOKENIZER = "tokenizer.json";
/** @type {readonly Tower[]} */
export const TOWERS = ["vision", "text"];
const FORMAT_VERSION = 1;
// Of a picture as the model takes it: twice that of the largest there are.
const MOST_SIDE = 2048;

const fileRecord = object({ size: integer, sha256: string });

const towerFiles = object({
  graph: string,
  recipe: string,
  onnxruntime: string,
  inputs: list(string),
  files: dictionary(fileRecord),
  parity: nullable(
    object({ reference: string, max_difference: float, min_cosine: float, inputs: integer }),
  ),
});

const fidelity = object({
  data: string,
  towers: dictionary(
    object({
      inputs: integer,
      mean_cosine: float,
      p1_cosine: float,
      min_cosine: float,
      batch_difference: float,
      speed_ratio: nullable(float),
    }),
  ),
  top1_agreement: nullable(float),
  recall1_change: nullable(float),
  forced: boolean,
});

// Graphs of pictures as they are decoded: known, and of no use here, where there are decoders.
const whole = object({
  resize: object({
    graph: string,
    onnxruntime: string,
    inputs: list(string),
    files: dictionary(fileRecord),
    parity: object({ reference: string, max_levels: integer, differing: float, pictures: integer }),
  }),
  towers: dictionary(towerFiles),
});

/** What `bundle.json` holds; runtime/bareclip/bundle/format.py says what each field means. */
export const MANIFEST_KIND = object(
  {
    format_version: integer,
    name: string,
    source: object({
      checkpoint: string,
      revision: nullable(string),
      license: nullable(string),
      architecture: string,
      exporter: string,
    }),
    embedding_dim: integer,
    scoring: object({
      function: oneOf(["softmax", "sigmoid"]),
      logit_scale: float,
      logit_bias: float,
    }),
    image: nullable(
      object({
        size: integer,
        resize: oneOf(["shortest", "squash"]),
        resize_to: integer,
        interpolation: oneOf(["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]),
        crop_offset: oneOf(["floor", "round"]),
        mean: list(float, 3),
        std: list(float, 3),
        scale: float,
        layout: oneOf(["uint8_nhwc"]),
      }),
    ),
    text: nullable(
      object({
        context_length: integer,
        pad_id: integer,
        end_id: integer,
        fixed_length: boolean,
        clean_up: list(
          oneOf([
            "fix_text", "unescape_html", "underscores_to_spaces", "remove_punctuation", "lowercase",
            "collapse_whitespace", "sep_to_pad",
          ]),
        ),
      }),
    ),
    tokenizer: nullable(fileRecord),
    precisions: dictionary(dictionary(towerFiles)),
    fidelity: dictionary(fidelity),
    whole: nullable(whole),
    static_batch: nullable(integer),
  },
  ["whole", "static_batch"],
);

/**
 * Reads and checks a bundle's manifest.
 * @param {string} text What `bundle.json` holds.
 * @param {string} place What messages call the bundle.
 * @returns {Bundle}
 * @throws {BundleError} No JSON, a newer format, an unknown or ill-typed field.
 */
export function readBundle(text, place) {
  const where = `${place}/${MANIFEST}`;
  let data;
  try {
    data = JSON.parse(text);
  } catch (error) {
    throw new BundleError(`cannot read ${where}: ${String(error)}; export the bundle again`);
  }
  const version = data?.format_version;
  if (version !== FORMAT_VERSION) {
    throw new BundleError(
      `${where} has format version ${short(version)}; this bareclip reads ${FORMAT_VERSION}: ` +
        "update bareclip, or export the bundle again",
    );
  }
  const manifest = MANIFEST_KIND(data, where);
  checkValues(manifest, where);
  if (manifest.static_batch !== null) {
    throw new BundleError(
      `${where} has graphs of fixed shapes, for compilers for phones and NPUs: export the ` +
        "checkpoint without --static",
    );
  }
  warnOfOldTexts(manifest, place);
  return new Bundle(manifest, place);
}

/** A bundle, as its manifest describes it. */
export class Bundle {
  /**
   * @param {Manifest} manifest
   * @param {string} place What messages call it.
   */
  constructor(manifest, place) {
    this.manifest = manifest;
    this.place = place;
  }

  /** @returns {Tower[]} Those it has. */
  get towers() {
    const has = { vision: this.manifest.image, text: this.manifest.text };
    return TOWERS.filter((name) => has[name] !== null);
  }

  /**
   * @returns {ImageRecipe} How images are read.
   * @throws {BundleError} It has no vision tower.
   */
  imageRecipe() {
    if (!this.manifest.image) {
      throw new BundleError(
        `${this.place} has a text tower only, so it embeds no images; use a bundle of the whole ` +
          "model, or of its vision tower",
      );
    }
    return this.manifest.image;
  }

  /**
   * @returns {TextRecipe} How texts are read.
   * @throws {BundleError} It has no text tower.
   */
  textRecipe() {
    if (!this.manifest.text) {
      throw new BundleError(
        `${this.place} has a vision tower only, so it embeds no texts; use a bundle of the whole ` +
          "model, or of its text tower",
      );
    }
    return this.manifest.text;
  }

  /**
   * @param {string} precision
   * @param {Tower} tower
   * @returns {boolean}
   */
  has(precision, tower) {
    const { precisions } = this.manifest;
    return Object.hasOwn(precisions, precision) && Object.hasOwn(precisions[precision], tower);
  }

  /**
   * The files of a tower at a precision.
   * @param {string} precision
   * @param {Tower} tower
   * @returns {ReturnType<typeof towerFiles>}
   * @throws {BundleError} The bundle does not have that precision or tower.
   */
  tower(precision, tower) {
    const { precisions } = this.manifest;
    if (!Object.hasOwn(precisions, precision)) {
      throw new BundleError(
        `${this.place} has no precision ${short(precision)}; it has ` +
          Object.keys(precisions).join(", "),
      );
    }
    if (!this.has(precision, tower)) {
      throw new BundleError(`${this.place} has no ${tower} tower at ${precision}`);
    }
    return precisions[precision][tower];
  }

  /**
   * Those of its towers that were asked for.
   * @param {readonly Tower[]} wanted
   * @returns {Tower[]}
   * @throws {BareclipError} A name of no tower, or none that it has.
   */
  wanted(wanted) {
    if (!Array.isArray(wanted) || !wanted.length || wanted.some((one) => !TOWERS.includes(one))) {
      throw new BareclipError(`towers are ${short(wanted)}; they are some of ${TOWERS.join(", ")}`);
    }
    const found = this.towers.filter((name) => wanted.includes(name));
    if (!found.length) {
      throw new BundleError(
        `${this.place} has a ${this.towers[0]} tower only, and ${wanted[0]} was asked for; use a ` +
          "bundle of the whole model",
      );
    }
    return found;
  }
}

/**
 * Says so where texts are tokenized as 0.1 did it: see docs/models.md.
 * @param {Manifest} manifest
 * @param {string} place
 */
function warnOfOldTexts({ source: { architecture, exporter }, text }, place) {
  const siglip = ["SiglipModel", "ready-made siglip"].includes(architecture);
  const openClip = architecture.startsWith("open_clip") && !text?.fixed_length;
  if (text && exporter.startsWith("bareclip 0.1.0") && (siglip || openClip)) {
    console.warn(
      `bareclip: ${place} was exported by bareclip 0.1.0, which read some texts otherwise than the ` +
        "model does (docs/models.md says which): export it again",
    );
  }
}

/**
 * Refuses numbers and names that would only fail, or mislead, when the model is asked.
 * @param {Manifest} manifest
 * @param {string} where
 */
function checkValues(manifest, where) {
  const { scoring, embedding_dim, image, text, tokenizer, precisions } = manifest;
  const has = { vision: image !== null, text: text !== null };
  const towers = Object.values(precisions).flatMap((of) => Object.entries(of));
  /** @type {[string, boolean][]} */
  const rules = [
    ["a logit_scale up to 50, the logarithm of a factor", scoring.logit_scale <= 50],
    ["an embedding_dim of at least 1", embedding_dim >= 1],
    ["a tower", has.vision || has.text],
    ["a tokenizer with its text recipe, or neither", (text === null) === (tokenizer === null)],
    [
      "recipes for the towers that it has",
      towers.every(([name]) => Object.hasOwn(has, name) && has[/** @type {Tower} */ (name)]),
    ],
    [
      `an image size of at least 1, and a resize_to no smaller, up to ${MOST_SIDE}`,
      !image ||
        (1 <= image.size && image.size <= image.resize_to && image.resize_to <= MOST_SIDE),
    ],
    [
      "a context_length from 2 to a million",
      !text || (2 <= text.context_length && text.context_length <= 1e6),
    ],
    ["a pad_id and an end_id of at least 0", !text || Math.min(text.pad_id, text.end_id) >= 0],
    [
      "graphs that are among their files",
      towers.every(([, files]) => Object.hasOwn(files.files, files.graph)),
    ],
  ];
  for (const [rule, kept] of rules) {
    if (!kept) throw new BundleError(`${where} lacks ${rule}; export the bundle again`);
  }
  for (const name of towers.flatMap(([, files]) => Object.keys(files.files))) {
    // A manifest from elsewhere must not reach outside its folder.
    if (/^[\\/]|^[A-Za-z]:|(^|[\\/])\.\.([\\/]|$)|\0/.test(name)) {
      throw new BundleError(`${where} names ${short(name)}, outside the bundle`);
    }
  }
}
