/** The outline of the object under the mouse, before it is clicked, where the server's engine can find it at once. */

import { outlineAt } from "../server/api.js";
import { strokeVisibly } from "./layers.js";

/**
 * @typedef {import("./pane.js").Pane} Pane
 * @typedef {import("./view.js").View} View
 */

const PAUSE_MS = 60; // without a move of the mouse: the server works on the newest request only
const REST_MS = 30_000; // after a failure, for example of a server without outlines

/** Works only with the click tool, and only outside the marked area. */
export class HoverOutline {
  /** @type {[number, number][][]} */
  #polygons = [];
  #timer = 0;
  /** @type {AbortController | null} */
  #asking = null;
  #restsUntil = 0;
  /** The photo that the engine has not seen yet. */
  #unseen = "";

  /** @param {Pane} pane */
  constructor(pane) {
    this.pane = pane;
    const { canvas } = pane.stage;
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerleave", "pointerdown", "wheel"]) canvas.addEventListener(name, () => this.clear());
    pane.addEventListener("found", () => (this.#unseen = "")); // now the engine has seen it
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {View} view
   */
  paint(context, view) {
    if (!this.#polygons.length) return;
    const path = new Path2D();
    for (const polygon of this.#polygons) {
      for (const [index, point] of polygon.entries()) path[index ? "lineTo" : "moveTo"](...view.toStage(...point));
      path.closePath();
    }
    context.fillStyle = "rgb(255 255 255 / .18)";
    context.fill(path, "evenodd");
    strokeVisibly(context, path);
  }

  clear() {
    clearTimeout(this.#timer);
    this.#asking?.abort();
    this.#asking = null;
    if (!this.#polygons.length) return;
    this.#polygons = [];
    this.pane.repaint();
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (event.pointerType !== "mouse" || event.buttons) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(this.pane.stage.view.toPhoto(...this.pane.stage.place(event))), PAUSE_MS);
  }

  /** @param {[number, number]} point */
  async #ask(point) {
    const { photo, toolName, mode, busy, raster, isMarked } = this.pane;
    const image = photo?.upload.sha256 ?? "";
    const applies = image && toolName === "click" && mode === "mark" && !busy && image !== this.#unseen;
    if (!applies || performance.now() < this.#restsUntil || (isMarked && raster?.isCovered(point))) {
      this.clear();
      return;
    }
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    try {
      const { status, outline } = await outlineAt(image, point, asking.signal);
      if (asking !== this.#asking || status === "superseded") return;
      if (status === "not-seen") this.#unseen = image;
      this.#polygons = outline;
      this.pane.repaint();
    } catch {
      if (asking !== this.#asking) return; // a newer request runs, or the page needs no outline
      this.#restsUntil = performance.now() + REST_MS;
      this.clear();
    }
  }
}
