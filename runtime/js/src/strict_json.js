/** Values from parsed JSON: what is unknown, missing or of another type is refused by name. */

import { BundleError, short } from "./errors.js";

/**
 * @template T
 * @typedef {(data: unknown, where: string) => T} Kind Checks parsed JSON, and is its type.
 */

/**
 * @param {unknown} data
 * @param {string} where
 * @param {string} kind
 * @returns {BundleError}
 */
function unfit(data, where, kind) {
  return new BundleError(`${where} holds ${short(data)}, not a valid ${kind}; export the bundle again`);
}

/** @type {Kind<string>} */
export const string = (data, where) => {
  if (typeof data !== "string") throw unfit(data, where, "string");
  return data;
};

/** @type {Kind<boolean>} */
export const boolean = (data, where) => {
  if (typeof data !== "boolean") throw unfit(data, where, "boolean");
  return data;
};

/** @type {Kind<number>} */
export const integer = (data, where) => {
  if (typeof data !== "number" || !Number.isSafeInteger(data)) throw unfit(data, where, "integer");
  return data;
};

/** @type {Kind<number>} */
export const float = (data, where) => {
  if (typeof data !== "number" || !(Math.abs(data) < 1e300)) throw unfit(data, where, "number");
  return data;
};

/**
 * @template {string} T
 * @param {readonly T[]} values
 * @returns {Kind<T>}
 */
export const oneOf = (values) => (data, where) => {
  const found = values.find((value) => value === data);
  if (found === undefined) {
    throw new BundleError(
      `unsupported value ${short(data)} at ${where}; this bareclip knows ` +
        `${values.map(short).join(", ")}: update bareclip`,
    );
  }
  return found;
};

/**
 * @template T
 * @param {Kind<T>} kind
 * @returns {Kind<T | null>}
 */
export const nullable = (kind) => (data, where) => (data === null ? null : kind(data, where));

/**
 * @template T
 * @param {Kind<T>} kind
 * @param {number} [length] How many there must be; any number where it is left out.
 * @returns {Kind<T[]>}
 */
export const list = (kind, length) => (data, where) => {
  if (!Array.isArray(data) || (length !== undefined && data.length !== length)) {
    throw unfit(data, where, length === undefined ? "list" : `list of ${length}`);
  }
  return data.map((item) => kind(item, where));
};

/**
 * @template T
 * @param {Kind<T>} kind
 * @returns {Kind<Record<string, T>>}
 */
export const dictionary = (kind) => (data, where) => {
  const pairs = Object.entries(plain(data, where));
  return Object.fromEntries(pairs.map(([key, item]) => [key, kind(item, `${where}: ${key}`)]));
};

/**
 * An object with these fields and no others.
 * @template {Record<string, Kind<any>>} F
 * @param {F} fields
 * @param {(keyof F)[]} [mayLack] Those that may be missing; they are then checked as null.
 * @returns {Kind<{[K in keyof F]: ReturnType<F[K]>}>}
 */
export const object = (fields, mayLack = []) => {
  const names = Object.keys(fields);
  return (data, where) => {
    const given = plain(data, where);
    const unknown = Object.keys(given).filter((name) => !names.includes(name)).sort();
    if (unknown.length) {
      throw new BundleError(`unknown field ${short(unknown[0])} in ${where}; update bareclip`);
    }
    const missing = names
      .filter((name) => !Object.hasOwn(given, name) && !mayLack.includes(name))
      .sort();
    if (missing.length) {
      throw new BundleError(
        `field ${short(missing[0])} is missing in ${where}; export the bundle again`,
      );
    }
    const pairs = Object.entries(fields);
    return /** @type {any} */ (
      Object.fromEntries(pairs.map(([name, of]) => [name, of(given[name] ?? null, `${where}: ${name}`)]))
    );
  };
};

/**
 * @param {unknown} data
 * @param {string} where
 * @returns {Record<string, unknown>}
 */
function plain(data, where) {
  if (typeof data !== "object" || data === null || Array.isArray(data)) {
    throw new BundleError(`${where} holds ${short(data)}, not an object; export the bundle again`);
  }
  return /** @type {Record<string, unknown>} */ (data);
}
