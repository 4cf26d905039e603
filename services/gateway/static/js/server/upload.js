/** Uploads of images and masks. Each is sent once, and only if the server does not have it. */

import { digest } from "../page/digest.js";
import { ApiError, hasImage, storeImage } from "./api.js";

const SENT = "artmancer.sent";
const SENT_KEPT = 300;
const WAITS_MS = [1000, 2000, 4000, 8000, 15_000, 0]; // before the next attempt, after the connection was lost

/** One image or mask to upload. Fires `progress` while it is sent. */
export class Upload extends EventTarget {
  /** How much of it is sent, 0 to 1.
   * @type {number | null} */
  share = null;
  /** The connection was lost in the middle, and the upload waits for it. */
  isWaiting = false;
  #hasBegun = false;
  /** @type {AbortController | null} */
  #sending = null;
  /** @type {Promise<string> | null} */
  #sent = null;
  /** @type {Promise<Blob> | null} */
  #bytes = null;

  /**
   * @param {Blob | (() => Promise<Blob>)} source  the bytes, or a way to get them when they are needed
   * @param {string} [known]  its name on the server, if it came from there
   * @param {() => Promise<string>} [remake]  let the server make it again where the bytes are gone, and return its name
   */
  constructor(source, known, remake) {
    super();
    this.source = source;
    this.remake = remake;
    /** Its name on the server, after the upload. */
    this.sha256 = known ?? "";
    if (known) this.#sent = Promise.resolve(known);
  }

  /**
   * The bytes. Throws ApiError if they have to be fetched and cannot.
   * @returns {Promise<Blob>}
   */
  blob() {
    const { source } = this;
    this.#bytes ??= (async () => (source instanceof Blob ? source : source()))().catch((error) => {
      this.#bytes = null;
      throw error;
    });
    return this.#bytes;
  }

  /**
   * Upload the image if needed and return its name on the server.
   * @returns {Promise<string>}
   */
  send() {
    this.#sent ??= this.#sendOrRemake().then(
      (sha256) => (this.sha256 = sha256),
      (error) => {
        this.#sent = null;
        throw error;
      },
    );
    return this.#sent;
  }

  /** Stop sending. Callers that wait for `send` get an ApiError with the code "stopped". */
  stop() {
    this.#sending?.abort();
  }

  /** Upload again next time, because the server has lost it. */
  forget() {
    forgetSent(this.sha256);
    this.#sent = null;
  }

  async #sendOrRemake() {
    try {
      return await this.#send();
    } catch (error) {
      if (!this.remake || !(error instanceof ApiError && error.isGone)) throw error;
      return this.remake();
    }
  }

  async #send() {
    const blob = await this.blob();
    const sha256 = await digest(blob);
    // Ask the server only for images that were sent before: a missing image logs an error in the browser's console.
    if (sha256 && readSent().includes(sha256) && (await hasImage(sha256))) return sha256;
    const { signal } = (this.#sending = new AbortController());
    this.#hasBegun = false;
    try {
      for (const wait of WAITS_MS) {
        const stored = await this.#store(blob, signal, wait);
        if (!stored) continue;
        noteSent(stored.sha256);
        return stored.sha256;
      }
      throw new ApiError(0, "offline");
    } finally {
      this.#reportShare(null);
    }
  }

  /**
   * Send the bytes. If the connection was lost in the middle, wait, and return nothing.
   * @param {Blob} blob
   * @param {AbortSignal} signal
   * @param {number} wait  milliseconds; 0: this is the last try
   */
  async #store(blob, signal, wait) {
    try {
      return await storeImage(blob, (share) => this.#reportShare(share), signal);
    } catch (error) {
      // Wait only if a part was sent. If the server never answered, fail at once.
      const isLost = error instanceof ApiError && error.code === "offline" && this.#hasBegun;
      if (!isLost || !wait) throw error;
      this.isWaiting = true;
      this.#reportShare(0);
      await connection(wait, signal).finally(() => (this.isWaiting = false));
      return null;
    }
  }

  /** @param {number | null} share */
  #reportShare(share) {
    this.share = share;
    this.#hasBegun ||= Boolean(share);
    this.dispatchEvent(new Event("progress"));
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
  try {
    return await use(...(await sendAll(uploads)));
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== "image_not_found") throw error;
    for (const upload of uploads) upload.forget();
    return use(...(await sendAll(uploads)));
  }
}

/**
 * The names of uploads. Send them one after the other: while the photo waits for the connection, a mask would fail.
 * @param {Upload[]} uploads
 */
async function sendAll(uploads) {
  const names = [];
  for (const upload of uploads) names.push(await upload.send());
  return names;
}

/**
 * Wait for a time, and as long as the browser is offline. Throws ApiError with the code "stopped" after the signal.
 * @param {number} ms
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function connection(ms, signal) {
  return new Promise((resolve, reject) => {
    const ended = new AbortController();
    const timer = navigator.onLine ? setTimeout(() => end(resolve), ms) : 0;
    const end = (/** @type {() => void} */ settle) => {
      clearTimeout(timer);
      ended.abort();
      settle();
    };
    addEventListener("online", () => end(resolve), { signal: ended.signal });
    signal.addEventListener("abort", () => end(() => reject(new ApiError(0, "stopped"))), { signal: ended.signal });
  });
}

/** The names of the images that this browser has sent.
 * @returns {string[]} */
function readSent() {
  try {
    return JSON.parse(localStorage.getItem(SENT) ?? "[]");
  } catch {
    return []; // storage is blocked
  }
}

/** @param {string} sha256 */
function noteSent(sha256) {
  keepSent([...readSent().filter((name) => name !== sha256), sha256].slice(-SENT_KEPT));
}

/** @param {string} sha256 */
function forgetSent(sha256) {
  keepSent(readSent().filter((name) => name !== sha256));
}

/** @param {string[]} names */
function keepSent(names) {
  try {
    localStorage.setItem(SENT, JSON.stringify(names));
  } catch {
    // storage is blocked or full: each image is sent once more
  }
}
