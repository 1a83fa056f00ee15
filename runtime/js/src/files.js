/** A bundle's files, from wherever they lie: of the recorded size and SHA-256, or an error. */

import { BundleError, reason } from "./errors.js";
import { MANIFEST } from "./bundle.js";

/** @typedef {import("./bundle.js").FileRecord} FileRecord */
/** @typedef {{loaded: number, total: number}} Progress Bytes. */

/**
 * Where files lie.
 * @typedef {object} Source
 * @property {string} place What messages call it.
 * @property {(name: string, size: number | null, onBytes: (count: number) => void)
 *   => Promise<Uint8Array<ArrayBuffer>>} read
 *   All bytes of a file, of `size` where that is known; tells how many came as they come.
 *
 * Where files are kept by their SHA-256.
 * @typedef {object} Cache
 * @property {(sha256: string) => Promise<Uint8Array<ArrayBuffer> | null>} get
 * @property {(sha256: string, data: Uint8Array<ArrayBuffer>) => Promise<void>} put
 */

// A manifest has a few thousand bytes; one from elsewhere may have anything.
const MOST_MANIFEST_BYTES = 16 * 1024 ** 2;

/**
 * @param {Source} source
 * @returns {Promise<string>} What `bundle.json` holds.
 */
export async function readManifest(source) {
  return new TextDecoder().decode(await source.read(MANIFEST, null, () => {}));
}

/** Reads some files of a bundle, each looked for in a cache first. */
export class Files {
  /**
   * @param {Source} source
   * @param {Cache | null} cache
   * @param {Record<string, FileRecord>} records All that will be read.
   * @param {(progress: Progress) => void} onProgress
   */
  constructor(source, cache, records, onProgress) {
    this.source = source;
    this.cache = cache;
    this.records = records;
    this.onProgress = onProgress;
    this.loaded = 0;
    this.total = Object.values(records).reduce((sum, { size }) => sum + size, 0);
  }

  /**
   * @param {string} name Of `records`.
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   * @throws {BundleError} Missing, or not what the bundle recorded.
   */
  async read(name) {
    const record = this.records[name];
    const kept = await this.cache?.get(record.sha256);
    // What was kept may have been damaged since.
    if (kept && (await fault(kept, record)) === null) {
      this.#tell(record.size);
      return kept;
    }
    const data = await this.source.read(name, record.size, (count) => this.#tell(count));
    const wrong = await fault(data, record);
    if (wrong) {
      throw new BundleError(
        `${this.source.place}/${name} ${wrong}; export or copy the bundle again`,
      );
    }
    await this.cache?.put(record.sha256, data);
    return data;
  }

  /** @param {number} count */
  #tell(count) {
    this.loaded += count;
    this.onProgress({ loaded: this.loaded, total: this.total });
  }
}

/**
 * @param {Uint8Array<ArrayBuffer>} data
 * @param {FileRecord} record
 * @returns {Promise<string | null>} What is wrong with a file; null where nothing is.
 */
async function fault(data, record) {
  if (data.length !== record.size) {
    return `has ${data.length} bytes, where the bundle wants ${record.size}`;
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return sha256 === record.sha256 ? null : "is damaged, its checksum differs";
}

/**
 * A folder behind an address.
 * @param {string} address
 * @returns {Source}
 */
export function urlSource(address) {
  const base = address.replace(/\/*$/, "/");
  return {
    place: base.slice(0, -1),
    async read(name, size, onBytes) {
      // Each part quoted, so that a name can be no other address.
      const url = base + name.split("/").map(encodeURIComponent).join("/");
      let response;
      try {
        response = await fetch(url);
      } catch (error) {
        throw new BundleError(`cannot fetch ${url}: ${reason(error)}`);
      }
      if (response.status === 404 && name === MANIFEST) {
        throw new BundleError(
          `${base} is not a bundle: it has no ${MANIFEST}; make one with: ` +
            "bareclip export CHECKPOINT -o FOLDER",
        );
      }
      if (!response.ok || !response.body) {
        throw new BundleError(`cannot fetch ${url}: it was answered with ${response.status}`);
      }
      return await collected(response.body, size, url, onBytes);
    },
  };
}

/**
 * @param {ReadableStream<Uint8Array>} body
 * @param {number | null} size
 * @param {string} url
 * @param {(count: number) => void} onBytes
 */
async function collected(body, size, url, onBytes) {
  const most = size ?? MOST_MANIFEST_BYTES;
  let data = new Uint8Array(size ?? 4096);
  let length = 0;
  const reader = body.getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      const count = next.value.length;
      if (length + count > most) {
        throw new BundleError(`${url} has more than the ${most} bytes that it may have`);
      }
      if (length + count > data.length) {
        const larger = new Uint8Array(Math.max(2 * data.length, length + count));
        larger.set(data.subarray(0, length));
        data = larger;
      }
      data.set(next.value, length);
      length += count;
      onBytes(count);
    }
  } catch (error) {
    await reader.cancel().catch(() => {});
    if (error instanceof BundleError) throw error;
    throw new BundleError(`cannot fetch ${url}: ${reason(error)}`);
  }
  return length === data.length ? data : data.slice(0, length);
}
