/** Prompt templates: the sentences a label is put into, `{}` marking its place, or functions. */

import { TextError, short } from "../errors.js";

/** @typedef {string | ((label: string) => string)} Template */
/** @typedef {"plain" | "five" | "imagenet"} TemplateSet */
/** @typedef {TemplateSet | Template | readonly Template[]} Templates */

/**
 * OpenAI's 80 for ImageNet, from their parts (openai/CLIP, notebooks, MIT).
 * @returns {string[]}
 */
function imagenet() {
  const photos = [
    "bad", "low resolution", "cropped", "bright", "dark", "close-up", "black and white",
    "pixelated", "jpeg corrupted", "blurry", "good",
  ];
  const things = ["hard to see", "clean", "dirty", "cool", "large", "nice", "weird", "small"];
  const media = [
    "a photo", "a sculpture", "a rendering", "a rendition", "graffiti", "a tattoo", "a drawing",
    "a painting", "a doodle", "a sketch", "art", "itap",
  ];
  const materials = ["embroidered", "plastic", "origami", "toy", "cartoon", "plushie"];
  const starts = ["a photo of many", "a photo of my", "a photo of one", "itap of my"];
  const templates = starts.map((start) => `${start} {}.`);
  for (const article of ["a", "the"]) {
    templates.push(
      ...photos.map((photo) => `a ${photo} photo of ${article} {}.`),
      ...things.map((thing) => `a photo of ${article} ${thing} {}.`),
      ...media.map((medium) => `${medium} of ${article} {}.`),
      ...materials.map((material) => `${article} ${material} {}.`),
      `${article} {} in a video game.`,
    );
  }
  return templates.sort();
}

/** @type {Record<TemplateSet, readonly string[]>} */
export const TEMPLATES = {
  plain: ["a photo of a {}"],
  five: [
    "a photo of a {}", "a picture of a {}", "a {} in the wild", "a {} in nature", "an image of a {}",
  ],
  imagenet: imagenet(),
};

/**
 * Turns what a caller may give into templates.
 * @param {Templates} templates The name of a set, one template, or several.
 * @returns {readonly Template[]} At least one, each string with exactly one `{}`.
 * @throws {TextError} An unknown name, no template, or one without exactly one `{}`.
 */
export function resolve(templates) {
  const given =
    typeof templates === "string" && !templates.includes("{}")
      ? named(templates)
      : Array.isArray(templates) ? templates : [templates];
  if (!given.length) {
    throw new TextError("no templates given; give at least one, such as 'a photo of a {}'");
  }
  for (const template of given) {
    const fits = typeof template === "string" && template.split("{}").length === 2;
    if (typeof template !== "function" && !fits) {
      throw new TextError(
        `template ${short(template)} must contain {} exactly once, where the label goes`,
      );
    }
  }
  return given;
}

/** @param {string} name */
function named(name) {
  if (Object.hasOwn(TEMPLATES, name)) return TEMPLATES[/** @type {TemplateSet} */ (name)];
  throw new TextError(
    `no templates named ${short(name)}; the sets are ${Object.keys(TEMPLATES).join(", ")}, or ` +
      "give your own such as 'a photo of a {}'",
  );
}

/**
 * The prompt that a template makes of a label.
 * @param {Template} template
 * @param {string} label
 * @returns {string}
 * @throws {TextError} A function gave something else than a string.
 */
export function fill(template, label) {
  // A function, since "$&" in a label would mean something to replace().
  const prompt = typeof template === "function" ? template(label) : template.replace("{}", () => label);
  if (typeof prompt !== "string") {
    throw new TextError(
      `a template gave ${short(prompt)} for label ${short(label)}; it must give a string`,
    );
  }
  return prompt;
}

/**
 * @param {Iterable<string>} labels
 * @returns {string[]}
 * @throws {TextError} None, or one that is no string or empty.
 */
export function checkedLabels(labels) {
  if (typeof labels === "string" || typeof labels?.[Symbol.iterator] !== "function") {
    throw new TextError(`labels must be a list of strings, not ${short(labels)}; pass [label, ...]`);
  }
  const names = [...labels];
  if (!names.length) {
    throw new TextError("no labels given; give at least one, such as ['cat', 'dog']");
  }
  for (const name of names) {
    if (typeof name !== "string" || !name.trim()) {
      throw new TextError(`label ${short(name)} is not a non-empty string`);
    }
  }
  const repeated = names.find((name, place) => names.indexOf(name) < place);
  if (repeated !== undefined) {
    console.warn(
      `bareclip: label ${short(repeated)} is given more than once; each is a column of its own`,
    );
  }
  return names;
}
