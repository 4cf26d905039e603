/** Keeps the bytes of photos, masks and results in the browser, so that the page shows them without the server. */

import { readImage, readPatch, readResult } from "../server/api.js";

/**
 * @typedef {import("./store.js").Store} Store
 * @typedef {import("../photo/photo.js").Patch} Patch
 */

const MOST_BYTES = 300_000_000;

/** Forgets the least recently used bytes first. */
export class Vault {
  /** @type {Map<string, {bytes: number, at: number}>} */
  #sizes = new Map();

  /** @param {Store} store */
  constructor(store) {
    this.store = store;
    store.makeRoom = () => this.#forgetOldest();
    this.ready = store.all("sizes").then((all) => {
      for (const { key, bytes, at } of all) this.#sizes.set(key, { bytes, at });
    });
  }

  /**
   * An image of the server by its hash. Throws ApiError.
   * @param {string} sha256
   * @returns {Promise<Blob>}
   */
  image(sha256) {
    return this.#read(sha256, () => readImage(sha256));
  }

  /**
   * The result of a job. Throws ApiError.
   * @param {string} id
   * @returns {Promise<Blob>}
   */
  result(id) {
    return this.#read(`result-${id}`, () => readResult(id));
  }

  /**
   * The changed rectangle of a result; nothing if the whole result is needed. Throws ApiError.
   * @param {string} id
   * @returns {Promise<Patch | null>}
   */
  async patch(id) {
    const key = `patch-${id}`;
    const kept = await this.store.get("blobs", key);
    if (kept) return kept;
    if (await this.store.get("blobs", `result-${id}`)) return null;
    const { patch, whole } = await readPatch(id);
    if (patch) this.#keep(key, patch, patch.blob.size);
    if (whole) await this.keep(`result-${id}`, whole);
    return patch;
  }

  /**
   * Whether the browser has only the changed rectangle of a result.
   * @param {string} id
   */
  async hasOnlyPatch(id) {
    await this.ready;
    return this.#sizes.has(`patch-${id}`) && !this.#sizes.has(`result-${id}`);
  }

  /**
   * @param {string} key
   * @param {Blob} blob
   */
  keep(key, blob) {
    return this.#keep(key, blob, blob.size);
  }

  /**
   * @param {string} key
   * @param {Blob | Patch} value
   * @param {number} bytes
   */
  async #keep(key, value, bytes) {
    await this.ready;
    if (this.#sizes.has(key)) return;
    const size = { bytes, at: Date.now() };
    this.#sizes.set(key, size);
    await this.store.put("blobs", key, value);
    await this.store.put("sizes", key, { key, ...size });
    while (this.#bytes() > MOST_BYTES && (await this.#forgetOldest(key)));
  }

  /**
   * @param {string} key
   * @param {() => Promise<Blob>} fetchIt
   */
  async #read(key, fetchIt) {
    const kept = await this.store.get("blobs", key);
    if (kept instanceof Blob) return kept;
    const blob = await fetchIt();
    this.keep(key, blob);
    return blob;
  }

  #bytes() {
    return [...this.#sizes.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** @param {string} [spared] */
  async #forgetOldest(spared) {
    const others = [...this.#sizes].filter(([key]) => key !== spared);
    if (!others.length) return false;
    await this.#forget(others.reduce((oldest, each) => (each[1].at < oldest[1].at ? each : oldest))[0]);
    return true;
  }

  /** @param {string} key */
  async #forget(key) {
    this.#sizes.delete(key);
    await this.store.remove("blobs", key);
    await this.store.remove("sizes", key);
  }
}
