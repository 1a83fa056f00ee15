/** Clip: a loaded bundle that embeds images and texts and scores them. */

import { BareclipError, TextError, VectorError, short } from "./errors.js";
import { cosine, dot, meanDirection, probabilities, topK, unitRows } from "./scoring.js";
import { checkedLabels, fill, resolve } from "./texts/prompts.js";

/** @typedef {import("./engine.js").About} About */
/** @typedef {import("./engine.js").OnError} OnError */
/** @typedef {import("./engine.js").PartialEmbeddings} PartialEmbeddings */
/** @typedef {import("./images/inputs.js").ImageInput} ImageInput */
/** @typedef {import("./scoring.js").Vector} Vector */
/** @typedef {import("./texts/prompts.js").Templates} Templates */
/** @typedef {{label: string, probability: number}} Prediction */
/** @typedef {{templates?: Templates, ensemble?: "embedding" | "probability"}} ClassifierOptions */

/**
 * @template T
 * @typedef {{item: T, similarity: number}} Hit Something found, and its cosine to what was wanted.
 */

/**
 * What embeds, here or in a worker.
 * @typedef {object} Embedder
 * @property {About} about
 * @property {(images: Iterable<ImageInput>, onError: OnError) => Promise<PartialEmbeddings>} embedImages
 * @property {(texts: Iterable<string>, truncate: boolean) => Promise<Float32Array[]>} embedTexts
 * @property {(image: ImageInput) => Promise<Uint8Array>} pixels
 * @property {() => Promise<void>} close
 */

/** A model that is ready to answer; made by `load`. Calls are answered one after another. */
export class Clip {
  #embedder;

  /** @param {Embedder} embedder */
  constructor(embedder) {
    this.#embedder = embedder;
  }

  /** The bundle's manifest. */
  get manifest() {
    return this.#embedder.about.manifest;
  }

  /** Where the towers run. */
  get device() {
    return this.#embedder.about.device;
  }

  /** The precision of each tower that was loaded. */
  get precision() {
    return { ...this.#embedder.about.precision };
  }

  /** Of one operator; 0 where ONNX Runtime counts them itself. */
  get threads() {
    return this.#embedder.about.threads;
  }

  /**
   * Embeds images.
   * @overload
   * @param {Iterable<ImageInput>} images N addresses or (in Node) paths, Blobs or Files, bytes, or
   *   pixels such as ImageData, in any mixture.
   * @param {{onError?: "raise"}} [options] `"raise"` stops at the first image that cannot be read;
   *   `"skip"` answers with what worked and the list of what did not.
   * @returns {Promise<Float32Array[]>} N unit vectors, in the order given.
   */
  /**
   * @overload
   * @param {Iterable<ImageInput>} images
   * @param {{onError: "skip"}} options
   * @returns {Promise<PartialEmbeddings>}
   */
  /**
   * @param {Iterable<ImageInput>} images
   * @param {{onError?: OnError}} options
   * @returns {Promise<any>}
   */
  async embedImages(images, { onError = "raise" } = {}) {
    if (!["raise", "skip"].includes(onError)) {
      throw new BareclipError(`onError ${short(onError)} is unknown; it is "raise" or "skip"`);
    }
    const found = await this.#embedder.embedImages(images, onError);
    return onError === "skip" ? found : found.vectors;
  }

  /**
   * Embeds texts; short ones do not pay for long ones.
   * @param {Iterable<string>} texts
   * @param {{truncate?: boolean}} [options] `truncate: false` makes a text that is longer than the
   *   model's context an error; else it is cut, keeping its end token.
   * @returns {Promise<Float32Array[]>} N unit vectors, in the order given.
   */
  async embedTexts(texts, { truncate = true } = {}) {
    return await this.#embedder.embedTexts(texts, truncate);
  }

  /**
   * What the model is shown of an image, by the bundle's recipe.
   * @param {ImageInput} image
   * @returns {Promise<Uint8Array>} (size, size, 3), RGB.
   */
  async pixels(image) {
    return await this.#embedder.pixels(image);
  }

  /**
   * Cosine similarity of every row with every row.
   * @param {ArrayLike<Vector>} left N vectors of images or texts, of any length but zero.
   * @param {ArrayLike<Vector>} right M vectors.
   * @returns {Float32Array[]} N rows of M, within [-1, 1].
   */
  similarity(left, right) {
    return cosine(left, right);
  }

  /**
   * How probable the model finds each text for each image, from their vectors.
   * @param {ArrayLike<Vector>} images N vectors.
   * @param {ArrayLike<Vector>} texts M vectors of whole prompts.
   * @returns {number[][]} N rows of M. They sum to one where the model was trained with a softmax,
   *   as CLIP; a SigLIP judges each pair alone.
   */
  probabilities(images, texts) {
    const { embedding_dim: width, scoring } = this.manifest;
    const columns = unitRows(texts, "text vectors", width);
    return unitRows(images, "image vectors", width).map((row) => probabilities(row, columns, scoring));
  }

  /**
   * Embeds labels once, to classify many images with.
   * @param {Iterable<string>} labels
   * @param {ClassifierOptions} [options] `templates`: `"plain"` ("a photo of a {}"), `"five"`,
   *   `"imagenet"` (OpenAI's 80), one of your own, or several; a template is a string or a function
   *   from a label to a prompt. `ensemble`: `"embedding"` averages a label's vectors,
   *   `"probability"` its probabilities.
   * @returns {Promise<Classifier>}
   */
  async classifier(labels, { templates = "plain", ensemble = "embedding" } = {}) {
    const names = checkedLabels(labels);
    if (ensemble !== "embedding" && ensemble !== "probability") {
      throw new TextError(
        `ensemble ${short(ensemble)} is unknown; it is "embedding" or "probability"`,
      );
    }
    const forms = resolve(templates);
    const prompts = forms.flatMap((template) => names.map((name) => fill(template, name)));
    const flat = await this.embedTexts(prompts);
    const byTemplate = forms.map((_, at) => flat.slice(at * names.length, (at + 1) * names.length));
    const matrix =
      ensemble === "probability"
        ? byTemplate
        : [names.map((_, label) => meanDirection(byTemplate.map((of) => of[label])))];
    return new Classifier(this, names, matrix);
  }

  /**
   * Zero-shot classification; `classifier` does it for many images in turn.
   * @param {Iterable<ImageInput>} images
   * @param {Iterable<string>} labels
   * @param {ClassifierOptions & {top?: number}} [options] As for `classifier`; `top`: only the most
   *   probable.
   * @returns {Promise<Prediction[][]>} For each image its labels, most probable first.
   */
  async classify(images, labels, { top, ...options } = {}) {
    return await (await this.classifier(labels, options)).classify(images, { top });
  }

  /**
   * The items whose vectors are most similar to a text or to an image.
   * @template T
   * @param {ArrayLike<Vector>} vectors One per item.
   * @param {Iterable<T>} items Anything: names, addresses, records.
   * @param {{text?: string, image?: ImageInput, k?: number}} wanted One of `text` and `image`; `k`
   *   is how many to return at most, 10 where it is left out.
   * @returns {Promise<Hit<T>[]>} Best first, ties in the order of `items`.
   */
  async search(vectors, items, { text, image, k = 10 }) {
    if ((text === undefined) === (image === undefined)) {
      throw new BareclipError("search wants one of text and image, such as {text: 'a sunset'}");
    }
    if (!Number.isInteger(k) || k < 0) throw new VectorError(`k is ${short(k)}; it must be 0 or more`);
    const rows = unitRows(vectors, "vectors", this.manifest.embedding_dim);
    const names = [...items];
    if (rows.length !== names.length) {
      throw new VectorError(
        `search needs a vector for each item: there are ${rows.length} vectors, ${names.length} items`,
      );
    }
    const [query] =
      image === undefined
        ? await this.embedTexts([/** @type {string} */ (text)])
        : await this.embedImages([image]);
    const scores = rows.map((row) => dot(row, query));
    return topK(scores, k).map((place) => ({ item: names[place], similarity: scores[place] }));
  }

  /** Gives its memory back; after that it answers nothing. */
  async close() {
    await this.#embedder.close();
  }
}

/** Labels embedded once; made by `Clip.classifier`. */
export class Classifier {
  #clip;
  #matrix;

  /**
   * @param {Clip} clip
   * @param {string[]} labels
   * @param {Vector[][]} matrix A vector per label, once or for each template.
   */
  constructor(clip, labels, matrix) {
    this.#clip = clip;
    this.#matrix = matrix;
    /** A column of `probabilities` each. */
    this.labels = labels;
  }

  /**
   * Probabilities from image vectors.
   * @param {ArrayLike<Vector>} images N vectors.
   * @returns {number[][]} N rows, columns in the order of `labels`.
   */
  probabilities(images) {
    const each = this.#matrix.map((texts) => this.#clip.probabilities(images, texts));
    const mean = (/** @type {number} */ row, /** @type {number} */ column) =>
      each.reduce((sum, found) => sum + found[row][column], 0) / each.length;
    return each[0].map((row, at) => row.map((_, column) => mean(at, column)));
  }

  /**
   * As `Clip.classify`.
   * @param {Iterable<ImageInput>} images
   * @param {{top?: number}} [options]
   * @returns {Promise<Prediction[][]>}
   */
  async classify(images, { top } = {}) {
    if (top !== undefined && !(Number.isInteger(top) && top >= 1)) {
      throw new TextError(`top is ${short(top)}; it must be at least 1, or left out for all labels`);
    }
    const found = this.probabilities(await this.#clip.embedImages(images));
    return found.map((row) =>
      topK(row, top ?? row.length).map((at) => ({ label: this.labels[at], probability: row[at] })),
    );
  }
}
