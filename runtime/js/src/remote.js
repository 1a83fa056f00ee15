/** A bundle opened in a web worker, as its page sees it. */

import { BareclipError, unpacked } from "./errors.js";
import { severalImages } from "./images/inputs.js";

/** @typedef {import("./images/inputs.js").ImageInput} ImageInput */
/** @typedef {import("./worker.js").Answer} Answer */
/** @typedef {import("./worker.js").Call["method"]} Method */
/** @typedef {(progress: import("./files.js").Progress) => void} OnProgress */
/** @typedef {{done: (answer: any) => void, failed: (error: Error) => void}} Waiting */

/**
 * @param {import("./here.js").Wanted} wanted
 * @param {OnProgress} onProgress
 * @returns {Promise<Remote>}
 */
export async function openInWorker(wanted, onProgress) {
  const worker = makeWorker();
  const remote = new Remote(worker, onProgress);
  try {
    remote.about = await remote.call("open", [wanted]);
    return remote;
  } catch (error) {
    worker.terminate();
    throw error;
  }
}

/** @returns {Worker} */
function makeWorker() {
  const address = new URL("./worker.js", import.meta.url);
  if (address.origin === globalThis.location.origin || address.protocol === "blob:") {
    // Written out as bundlers look for it.
    return new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  }
  // A worker of another origin is not allowed; one of this origin that imports it is.
  const text = `import ${JSON.stringify(address.href)};`;
  const local = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  return new Worker(local, { type: "module" });
}

/** Calls to a worker; an Embedder as `Clip` wants it. */
class Remote {
  /** @type {Map<number, Waiting>} */ #waiting = new Map();
  /** @type {Error | null} */ #broken = null;
  #count = 0;
  #worker;

  /**
   * @param {Worker} worker
   * @param {OnProgress} onProgress
   */
  constructor(worker, onProgress) {
    this.#worker = worker;
    /** @type {import("./engine.js").About} */
    this.about = /** @type {any} */ (null);
    worker.addEventListener("message", ({ data }) => {
      const { id, answer, error, progress } = /** @type {Answer} */ (data);
      if (progress) return onProgress(progress);
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) waiting?.failed(unpacked(error));
      else waiting?.done(answer);
    });
    worker.addEventListener("error", (event) => {
      this.#end(new BareclipError(`its web worker failed: ${event.message || "it cannot be loaded"}`));
    });
  }

  /**
   * @param {Method} method
   * @param {any[]} given
   * @returns {Promise<any>}
   */
  call(method, given) {
    if (this.#broken) return Promise.reject(this.#broken);
    return new Promise((done, failed) => {
      const id = this.#count++;
      this.#worker.postMessage({ id, method, given });
      this.#waiting.set(id, { done, failed });
    });
  }

  /**
   * @param {Iterable<ImageInput>} images
   * @param {import("./engine.js").OnError} onError
   * @returns {Promise<import("./engine.js").PartialEmbeddings>}
   */
  async embedImages(images, onError) {
    return await this.call("embedImages", [severalImages(images).map(sendable), onError]);
  }

  /**
   * @param {Iterable<string>} texts
   * @param {boolean} truncate
   * @returns {Promise<Float32Array[]>}
   */
  async embedTexts(texts, truncate) {
    const several = typeof texts !== "string" && typeof texts?.[Symbol.iterator] === "function";
    return await this.call("embedTexts", [several ? [...texts] : texts, truncate]);
  }

  /**
   * @param {ImageInput} image
   * @returns {Promise<Uint8Array>}
   */
  async pixels(image) {
    return await this.call("pixels", [sendable(image)]);
  }

  async close() {
    if (this.#broken) return;
    await this.call("close", []);
    this.#end(new BareclipError("this Clip was closed; load the bundle again"));
  }

  /** @param {Error} error What every call is answered with from now on. */
  #end(error) {
    this.#broken = error;
    this.#worker.terminate();
    for (const { failed } of this.#waiting.values()) failed(error);
    this.#waiting.clear();
  }
}

/**
 * Addresses as the page means them, which a worker would read as its own.
 * @param {ImageInput} image
 */
function sendable(image) {
  const address = typeof image === "string" || image instanceof URL;
  return address ? new URL(image, globalThis.document?.baseURI ?? globalThis.location.href).href : image;
}
