/** Strokes that are not part of the mask any more, shown until they are removed. */

import { maskLayer } from "../stage/layers.js";
import { Raster } from "./raster.js";

/**
 * @typedef {import("./mask.js").MaskState} MaskState
 * @typedef {import("../photo/photo.js").Photo} Photo
 */

/** One layer for all of them. */
export class WaitingStrokes {
  /** @type {Raster | null} */
  #raster = null;

  /**
   * @param {() => number} opacity
   * @param {import("../stage/stage.js").Stage} stage
   */
  constructor(opacity, stage) {
    this.stage = stage;
    this.layer = maskLayer(
      () => this.#raster,
      () => ({ opacity: opacity(), working: true }),
      () => stage.animate(),
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
    this.stage.repaint();
  }
}
