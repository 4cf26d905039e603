/** Uploads of images and masks. Each is sent once, and only if the server does not have it. */

import { ApiError, hasImage, storeImage } from "./api.js";

/**
 * The SHA-256 of a blob in hexadecimal, or nothing on insecure pages, where browsers offer no hashing.
 * @param {Blob} blob
 */
async function digest(blob) {
  if (!globalThis.crypto?.subtle) return "";
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** One image or mask to upload. */
export class Upload {
  /** @type {Promise<string> | null} */
  #sent = null;

  /**
   * @param {Blob} blob
   * @param {string} [known]  its name on the server, if it came from there
   */
  constructor(blob, known) {
    this.blob = blob;
    /** Its name on the server, after the upload. */
    this.sha256 = known ?? "";
    if (known) this.#sent = Promise.resolve(known);
  }

  /**
   * Upload the image if needed and return its name on the server.
   * @returns {Promise<string>}
   */
  send() {
    this.#sent ??= this.#send().then(
      (sha256) => (this.sha256 = sha256),
      (error) => {
        this.#sent = null;
        throw error;
      },
    );
    return this.#sent;
  }

  /** Upload again next time, because the server has lost it. */
  forget() {
    this.#sent = null;
  }

  async #send() {
    const sha256 = await digest(this.blob);
    if (sha256 && (await hasImage(sha256))) return sha256;
    return (await storeImage(this.blob)).sha256;
  }
}

/**
 * Run a function that needs images on the server. If the server has lost one, upload all again and retry once.
 * @template T
 * @param {Upload[]} uploads
 * @param {(...names: string[]) => Promise<T>} use
 * @returns {Promise<T>}
 */
export async function withStored(uploads, use) {
  const send = () => Promise.all(uploads.map((upload) => upload.send()));
  try {
    return await use(...(await send()));
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== "image_not_found") throw error;
    for (const upload of uploads) upload.forget();
    return use(...(await send()));
  }
}
