/** The tools for the pointer and the crosshair, one class each. Points are pixels of the photo. */

import { strokeVisibly } from "../stage/layers.js";

/**
 * @typedef {import("./mask.js").Point} Point
 * @typedef {import("./mask.js").Box} Box
 * @typedef {import("../stage/view.js").View} View
 * @typedef {{point: Point, scale: number, opposite: boolean}} Touch  scale: CSS pixels per pixel of the photo;
 *   opposite: Alt is held
 * @typedef {object} Tool
 * @property {boolean} drags  whether it works from one point to another
 * @property {(touch: Touch) => void} down
 * @property {(touch: Touch) => void} move
 * @property {(touch: Touch) => void} up
 * @property {() => void} cancel
 * @property {(context: CanvasRenderingContext2D, view: View, hover: Point | null) => void} paint
 *
 * @typedef {{brushPx: number, adds: boolean}} ToolOptions  brushPx: diameter in CSS pixels
 */

const CLICK_SLACK_PX = 10; // a finger always moves a little
const SMALLEST_BOX_PX = 6;

/** @implements {Tool} */
export class ClickTool {
  drags = false;
  /** @type {Touch | null} */
  #from = null;

  /**
   * @param {ToolOptions} options
   * @param {(point: Point, positive: boolean) => void} act
   */
  constructor(options, act) {
    this.options = options;
    this.act = act;
  }

  /** @param {Touch} touch */
  down(touch) {
    this.#from = touch;
  }

  move() {}

  /** @param {Touch} touch */
  up(touch) {
    const from = this.#from;
    this.#from = null;
    if (!from || distance(from.point, touch.point) * touch.scale > CLICK_SLACK_PX) return;
    this.act(touch.point, this.options.adds !== touch.opposite);
  }

  cancel() {
    this.#from = null;
  }

  paint() {}
}

/** @implements {Tool} */
export class BoxTool {
  drags = true;
  /** @type {[Point, Point] | null} */
  #corners = null;

  /** @param {(box: Box) => void} act */
  constructor(act) {
    this.act = act;
  }

  /** @param {Touch} touch */
  down({ point }) {
    this.#corners = [point, point];
  }

  /** @param {Touch} touch */
  move({ point }) {
    if (this.#corners) this.#corners[1] = point;
  }

  /** @param {Touch} touch */
  up({ point, scale }) {
    if (!this.#corners) return;
    const [[x0, y0]] = this.#corners;
    const [x1, y1] = point;
    this.#corners = null;
    if (Math.min(Math.abs(x1 - x0), Math.abs(y1 - y0)) * scale < SMALLEST_BOX_PX) return;
    this.act([Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)]);
  }

  cancel() {
    this.#corners = null;
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {View} view
   */
  paint(context, view) {
    if (!this.#corners) return;
    const [[x0, y0], [x1, y1]] = this.#corners.map(([x, y]) => view.toStage(x, y));
    const path = new Path2D();
    path.rect(x0, y0, x1 - x0, y1 - y0);
    context.fillStyle = "rgb(255 255 255 / .12)";
    context.fill(path);
    strokeVisibly(context, path, [6, 4]);
  }
}

/** @implements {Tool} */
export class BrushTool {
  drags = true;
  #drawing = false;

  /**
   * @param {ToolOptions} options
   * @param {import("./pen.js").Pen} pen
   */
  constructor(options, pen) {
    this.options = options;
    this.pen = pen;
  }

  /** @param {Touch} touch */
  down({ point, scale }) {
    this.#drawing = true;
    this.pen.begin(point, this.options.brushPx / 2 / scale);
  }

  /** @param {Touch} touch */
  move({ point }) {
    if (this.#drawing) this.pen.extend(point);
  }

  up() {
    if (this.#drawing) this.pen.end();
    this.#drawing = false;
  }

  cancel() {
    if (this.#drawing) this.pen.drop();
    this.#drawing = false;
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {View} view
   * @param {Point | null} hover
   */
  paint(context, view, hover) {
    if (!hover) return;
    const [x, y] = view.toStage(...hover);
    const ring = new Path2D();
    ring.arc(x, y, this.options.brushPx / 2, 0, 2 * Math.PI);
    strokeVisibly(context, ring);
  }
}

/**
 * @param {Point} from
 * @param {Point} to
 */
function distance([x0, y0], [x1, y1]) {
  return Math.hypot(x1 - x0, y1 - y0);
}
