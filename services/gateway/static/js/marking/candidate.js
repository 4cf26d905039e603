/** A mask found by the server: its name, its bytes, and a small copy with the mask as alpha. */

import { drawing } from "../page/dom.js";

/** One possible result of an ambiguous click. */
export class Candidate {
  /** @type {Promise<void> | null} */
  #loading = null;
  /** The full-size PNG; set once loaded.
   * @type {Blob | null} */
  blob = null;
  /** White, with the mask as alpha, as large as the photo's preview; set once loaded.
   * @type {HTMLCanvasElement | null} */
  preview = null;

  /**
   * @param {string} sha256
   * @param {HTMLCanvasElement} photo  the preview of the photo
   * @param {(sha256: string) => Promise<Blob>} read
   */
  constructor(sha256, photo, read) {
    this.sha256 = sha256;
    this.read = read;
    this.width = photo.width;
    this.height = photo.height;
  }

  /** Fetch and decode the mask. Later calls share the first one's result. */
  load() {
    this.#loading ??= this.#load().catch((error) => {
      this.#loading = null;
      throw error;
    });
    return this.#loading;
  }

  async #load() {
    this.blob = await this.read(this.sha256);
    this.preview = await alphaOf(this.blob, this.width, this.height);
  }
}

/**
 * A mask as a white drawing with the mask as its alpha.
 * @param {Blob} blob  greyscale, white inside
 * @param {number} width
 * @param {number} height
 */
export async function alphaOf(blob, width, height) {
  const bitmap = await createImageBitmap(blob);
  const context = drawing(width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const image = context.getImageData(0, 0, width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = ((pixels[i] & 0xff) << 24) | 0xffffff; // little-endian RGBA
  context.putImageData(image, 0, 0);
  return context.canvas;
}
