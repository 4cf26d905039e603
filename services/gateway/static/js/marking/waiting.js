/** Strokes that are not part of the mask any more, shown until they are removed. */

import { maskLayer } from "../stage/layers.js";
import { Raster } from "./raster.js";

/**
 * @typedef {import("./mask.js").MaskState} MaskState
 * @typedef {import("../photo/photo.js").Photo} Photo
 */

const FRAME_MS = 50; // while they pulse: slow enough to leave the processor to the edit

/** One layer for all of them. */
export class WaitingStrokes {
  /** @type {Raster | null} */
  #raster = null;

  /**
   * @param {() => number} opacity
   * @param {() => void} repaint
   */
  constructor(opacity, repaint) {
    this.repaint = repaint;
    this.layer = maskLayer(
      () => this.#raster,
      () => this.#look(opacity()),
    );
  }

  /**
   * @param {readonly MaskState[]} states
   * @param {Photo | null} photo
   */
  show(states, photo) {
    if (!states.length || !photo) {
      this.#raster = null;
    } else {
      this.#raster ??= new Raster(photo);
      this.#raster.renderAll(states);
    }
    this.repaint();
  }

  /** @param {number} opacity */
  #look(opacity) {
    if (this.#raster) setTimeout(() => this.repaint(), FRAME_MS);
    return { opacity: this.#raster ? opacity : 0, working: true };
  }
}
