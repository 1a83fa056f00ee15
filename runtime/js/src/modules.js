/**
 * The packages that this one stands on, imported when they are first wanted.
 *
 * A page's import map says where they lie, but a worker has none: the page resolves them for it.
 */

/** @typedef {{tokenizers?: string, entities?: string, lcms?: string,
 *   wasm?: string, webgpu?: string}} Addresses */
/** @typedef {typeof import("onnxruntime-common")} Ort */

/**
 * @typedef {object} Modules
 * @property {() => Promise<typeof import("@huggingface/tokenizers")>} tokenizers
 * @property {() => Promise<typeof import("entities/decode")>} entities
 * @property {() => Promise<unknown>} lcms LittleCMS, for pictures with a colour profile.
 * @property {() => Promise<Ort>} wasm ONNX Runtime in WebAssembly.
 * @property {() => Promise<Ort>} webgpu The same with WebGPU.
 */

/**
 * @param {Addresses} at Where they lie; one that is left out is found by its name.
 * @returns {Modules}
 */
export function modules(at = {}) {
  return {
    tokenizers: () => (at.tokenizers ? imported(at.tokenizers) : import("@huggingface/tokenizers")),
    entities: () => (at.entities ? imported(at.entities) : import("entities/decode")),
    // @ts-ignore: it comes without types
    lcms: () => (at.lcms ? imported(at.lcms) : import("lcms-wasm")),
    wasm: () => (at.wasm ? imported(at.wasm) : import("onnxruntime-web/wasm")),
    webgpu: () => (at.webgpu ? imported(at.webgpu) : import("onnxruntime-web/webgpu")),
  };
}

/**
 * Where the page's import map has them; of one that a bundler has built in, nothing.
 * @returns {Addresses}
 */
export function resolved() {
  const find = (/** @type {string} */ name) => {
    try {
      return import.meta.resolve(name);
    } catch {
      return undefined;
    }
  };
  return {
    tokenizers: find("@huggingface/tokenizers"),
    entities: find("entities/decode"),
    lcms: find("lcms-wasm"),
    wasm: find("onnxruntime-web/wasm"),
    webgpu: find("onnxruntime-web/webgpu"),
  };
}

/**
 * @param {string} address
 * @returns {Promise<any>}
 */
function imported(address) {
  return import(/* @vite-ignore */ /* webpackIgnore: true */ address);
}
