/** One tower of a bundle in ONNX Runtime: batches in, unit vectors out. */

import { BareclipError, BundleError, reason } from "../errors.js";

/** @typedef {import("../bundle.js").Bundle} Bundle */
/** @typedef {import("./device.js").Device} Device */
/** @typedef {import("onnxruntime-common").InferenceSession} Session */

// By how much the length of a vector may differ from 1.
const LENGTH_TOLERANCE = 1e-3;

/** A loaded tower. */
export class Tower {
  /**
   * @param {Session} session
   * @param {Device} device
   * @param {string} precision
   * @param {number} width Of a vector.
   */
  constructor(session, device, precision, width) {
    this.session = session;
    this.device = device;
    this.precision = precision;
    this.width = width;
  }

  /**
   * @param {Bundle} bundle
   * @param {import("../bundle.js").Tower} name
   * @param {string} precision
   * @param {Device} device
   * @param {import("../files.js").Files} files
   * @returns {Promise<Tower>}
   * @throws {BundleError} A file is missing or damaged, or is no graph that can be loaded.
   */
  static async load(bundle, name, precision, device, files) {
    const { graph, files: records } = bundle.tower(precision, name);
    const folder = graph.slice(0, graph.lastIndexOf("/") + 1);
    const externalData = [];
    for (const other of Object.keys(records).filter((one) => one !== graph)) {
      // A graph names its weights as they lie beside it.
      const path = other.startsWith(folder) ? other.slice(folder.length) : other;
      externalData.push({ path, data: await files.read(other) });
    }
    const model = await files.read(graph);
    let session;
    try {
      session = await device.ort.InferenceSession.create(model, {
        executionProviders: [device.name],
        externalData,
        ...(device.name === "cpu" ? nativeOptions(device.threads) : {}),
      });
    } catch (error) {
      throw new BundleError(`cannot load ${bundle.place}/${graph}: ${reason(error)}`);
    }
    return new Tower(session, device, precision, bundle.manifest.embedding_dim);
  }

  /**
   * Embeds a batch.
   * @param {"uint8" | "int64"} type
   * @param {Uint8Array | BigInt64Array} data
   * @param {number[]} shape Batch first.
   * @returns {Promise<Float32Array[]>} (N, D), unit rows.
   * @throws {BareclipError} ONNX Runtime failed, or answered with no unit vectors.
   */
  async run(type, data, shape) {
    const { session, device } = this;
    let answer;
    try {
      const tensor = new device.ort.Tensor(/** @type {any} */ (type), data, shape);
      const found = await session.run({ [session.inputNames[0]]: tensor });
      answer = found[session.outputNames[0]];
    } catch (error) {
      throw new BareclipError(`ONNX Runtime failed on an input of ${shape}: ${reason(error)}`);
    }
    const values = /** @type {Float32Array} */ (await answer.getData());
    const rows = Array.from({ length: shape[0] }, (_, row) =>
      values.slice(row * this.width, (row + 1) * this.width),
    );
    const right = values.length === shape[0] * this.width && rows.every(isUnit);
    answer.dispose();
    if (right) return rows;
    throw new BareclipError(
      `the tower answered with ${answer.dims} where ${shape[0]},${this.width} is right, or with ` +
        "vectors that are not finite or not of length 1: its files are damaged, or not a " +
        "tower's; export the bundle again",
    );
  }

  /** Gives its memory back. */
  async close() {
    await this.session.release();
  }
}

/** @param {Float32Array} row */
function isUnit(row) {
  // NaN is not near either.
  return Math.abs(row.reduce((sum, value) => sum + value * value, 0) - 1) < LENGTH_TOLERANCE;
}

/** @param {number} threads */
function nativeOptions(threads) {
  return {
    intraOpNumThreads: threads,
    // Threads that wait in a loop would take a server's processors from its other work.
    extra: { session: { intra_op: { allow_spinning: "0" } } },
  };
}
