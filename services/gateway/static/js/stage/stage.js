/** The canvas of a photo. It paints its layers only after a change. */

import { View } from "./view.js";

const PULSE_MS = 50; // between frames of a slow animation: the edit needs the processor
const MAX_DENSITY = 2; // a higher density is not visible and costs memory

/** @typedef {(context: CanvasRenderingContext2D, view: View) => void} Layer  paints in CSS pixels of the stage */

/** Independent of masks, tools and jobs. Fires `view` when the photo has moved or changed its size. */
export class Stage extends EventTarget {
  view = new View();
  /** @type {Layer[]} */
  layers = [];
  #asked = 0;
  #later = 0;
  #density = 1;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    super();
    this.canvas = canvas;
    // A colour space wider than that of the screen would cost accuracy.
    const context = canvas.getContext("2d", { colorSpace: matchMedia("(color-gamut: p3)").matches ? "display-p3" : "srgb" });
    if (!context) throw new Error("This browser cannot draw.");
    this.context = context;
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  /**
   * @param {number} width
   * @param {number} height
   */
  setPhoto(width, height) {
    this.view.setPhoto(width, height);
    this.moved();
  }

  /** Schedule one repaint, also for several calls. */
  repaint() {
    this.#asked ||= requestAnimationFrame(() => this.#paint());
  }

  /** Schedule the next frame of a slow animation, one also for several calls. */
  animate() {
    this.#later ||= setTimeout(() => {
      this.#later = 0;
      this.repaint();
    }, PULSE_MS);
  }

  /** Fire `view` and repaint. */
  moved() {
    this.dispatchEvent(new Event("view"));
    this.repaint();
  }

  /**
   * A pointer's position in the stage.
   * @param {MouseEvent} event
   * @returns {[number, number]}
   */
  place(event) {
    const edge = this.canvas.getBoundingClientRect();
    return [event.clientX - edge.left, event.clientY - edge.top];
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    this.#density = Math.min(MAX_DENSITY, devicePixelRatio || 1);
    this.canvas.width = Math.round(width * this.#density);
    this.canvas.height = Math.round(height * this.#density);
    this.view.setStage(width, height);
    this.dispatchEvent(new Event("view"));
    this.#paint(); // at once: a resized canvas is blank
  }

  #paint() {
    cancelAnimationFrame(this.#asked);
    this.#asked = 0;
    const { context, canvas } = this;
    context.setTransform(this.#density, 0, 0, this.#density, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    for (const layer of this.layers) {
      context.save();
      layer(context, this.view);
      context.restore();
    }
  }
}
