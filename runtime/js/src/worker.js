/** What runs in the web worker: opens a bundle, then answers calls. */

import { packed } from "./errors.js";
import { openHere } from "./here.js";

/**
 * @typedef {{id: number, method: "open" | "embedImages" | "embedTexts" | "pixels" | "close",
 *   given: any[]}} Call
 * @typedef {{id: number, answer?: any, error?: {name: string, message: string}, progress?: any}} Answer
 */

/** @type {import("./engine.js").Engine | null} */
let engine = null;

self.addEventListener("message", async (event) => {
  const { id, method, given } = /** @type {Call} */ (event.data);
  try {
    self.postMessage({ id, answer: await answered(id, method, given) });
  } catch (error) {
    self.postMessage({ id, error: packed(error) });
  }
});

/**
 * @param {number} id
 * @param {Call["method"]} method
 * @param {any[]} given
 */
async function answered(id, method, given) {
  if (method === "open") {
    engine = await openHere(given[0], (progress) => self.postMessage({ id, progress }));
    return engine.about;
  }
  const call = /** @type {(...given: any[]) => Promise<any>} */ (engine?.[method]);
  return await call.apply(engine, given);
}
