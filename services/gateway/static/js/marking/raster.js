/** Renders the steps of a mask: small and tinted for the screen, white on black at full size for the server. */

import { alphaOf } from "./candidate.js";
import { drawing } from "../page/dom.js";
import { grow } from "./growth.js";

/**
 * @typedef {import("./mask.js").MaskState} MaskState
 * @typedef {import("./mask.js").Line} Line
 * @typedef {import("./mask.js").Rectangle} Rectangle
 * @typedef {import("../photo/photo.js").Photo} Photo
 */

const TINT = "#ff2e88"; // rare in photos, so it is visible on nearly all of them
const EDGE_PX = 1.5;
const EDGE_SIDE_PX = 1200; // long side at which the border is drawn: more detail is not visible and costs time
const COUNTED_PX = 256;
const HALF = 127;
const MAX_EXPORT_PX = 16_000_000; // the largest canvas on phones; the server scales a smaller mask to the photo

/** The mask of one photo as shown on the screen. */
export class Raster {
  /** The marked fraction of the photo, 0 to 1. */
  coverage = 0;
  /** The left edge of the marked area, 0 to 1. */
  left = 0;

  /** @param {Photo} photo */
  constructor(photo) {
    this.scale = photo.scale;
    this.tint = drawing(photo.preview.width, photo.preview.height, { willReadFrequently: true }); // when it grows
    const shrunk = Math.min(1, EDGE_SIDE_PX / Math.max(photo.preview.width, photo.preview.height));
    this.edge = drawing(Math.ceil(photo.preview.width * shrunk), Math.ceil(photo.preview.height * shrunk));
  }

  /** @param {MaskState} state */
  render(state) {
    const found = state.candidates[state.chosen]?.preview ?? null;
    render(this.tint, state, found, this.scale, TINT);
    this.#outline();
    Object.assign(this, measure(this.tint.canvas));
  }

  /**
   * Draw several masks as one, for the screen only.
   * @param {readonly MaskState[]} states
   */
  renderAll(states) {
    const { width, height } = this.tint.canvas;
    this.tint.globalCompositeOperation = "source-over";
    this.tint.clearRect(0, 0, width, height);
    for (const { candidates, chosen } of states) {
      const found = candidates[chosen]?.preview;
      if (found) this.tint.drawImage(found, 0, 0, width, height);
    }
    colour(this.tint, TINT);
    for (const mark of states.flatMap(({ marks }) => marks)) draw(this.tint, mark, this.scale, TINT);
    this.#outline();
  }

  /**
   * Whether a point of the photo is inside the mask.
   * @param {import("./mask.js").Point} point
   */
  isCovered([x, y]) {
    return this.tint.getImageData(Math.floor(x * this.scale), Math.floor(y * this.scale), 1, 1).data[3] > HALF;
  }

  /**
   * Draw the newest part of an unfinished line; `render` later draws it exactly.
   * @param {Line} line
   * @param {number} growth  how much the whole mask is grown, in pixels of the photo
   */
  extend(line, growth) {
    const radius = Math.max(1, line.radius + (line.erase ? -growth : growth));
    draw(this.tint, { ...line, radius, points: line.points.slice(-2) }, this.scale, TINT);
  }

  /** A light line along the inside of the mask's border, visible on any photo and at any opacity. */
  #outline() {
    const { width, height } = this.edge.canvas;
    this.edge.globalCompositeOperation = "copy";
    this.edge.drawImage(this.tint.canvas, 0, 0, width, height);
    const core = drawing(width, height);
    core.drawImage(this.edge.canvas, 0, 0);
    core.globalCompositeOperation = "destination-in";
    for (const [dx, dy] of [
      [EDGE_PX, 0],
      [-EDGE_PX, 0],
      [0, EDGE_PX],
      [0, -EDGE_PX],
    ]) {
      core.drawImage(this.edge.canvas, dx, dy);
    }
    this.edge.globalCompositeOperation = "destination-out";
    this.edge.drawImage(core.canvas, 0, 0);
    colour(this.edge, "#fff");
  }
}

/**
 * The mask at the photo's full size: a PNG, white inside and black outside.
 * @param {MaskState} state
 * @param {Photo} photo
 * @returns {Promise<Blob>}
 */
export async function exportMask(state, photo) {
  const scale = Math.min(1, Math.sqrt(MAX_EXPORT_PX / (photo.width * photo.height)));
  const context = drawing(Math.round(photo.width * scale), Math.round(photo.height * scale));
  const { canvas } = context;
  const blob = state.candidates[state.chosen]?.blob;
  const found = blob ? await alphaOf(blob, canvas.width, canvas.height) : null;
  render(context, state, found, scale, "#fff");
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  return new Promise((resolve, reject) => {
    canvas.toBlob((png) => (png ? resolve(png) : reject(new Error("The mask could not be encoded."))), "image/png");
  });
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {MaskState} state
 * @param {HTMLCanvasElement | null} found
 * @param {number} scale  canvas pixels per pixel of the photo
 * @param {string} paint
 */
function render(context, state, found, scale, paint) {
  const { width, height } = context.canvas;
  context.globalCompositeOperation = "source-over";
  context.clearRect(0, 0, width, height);
  if (found) {
    context.drawImage(found, 0, 0, width, height);
    colour(context, paint);
  }
  for (const mark of state.marks) draw(context, mark, scale, paint);
  const radius = state.grow * scale;
  if (radius === 0) return;
  const image = context.getImageData(0, 0, width, height);
  grow(image, radius);
  context.putImageData(image, 0, 0);
  colour(context, paint); // new pixels have no colour yet
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Line | Rectangle} mark
 * @param {number} scale
 * @param {string} paint
 */
function draw(context, mark, scale, paint) {
  context.globalCompositeOperation = mark.kind === "line" && mark.erase ? "destination-out" : "source-over";
  context.fillStyle = context.strokeStyle = paint;
  if (mark.kind === "rectangle") {
    const [x0, y0, x1, y1] = mark.box.map((side) => side * scale);
    context.fillRect(x0, y0, x1 - x0, y1 - y0);
    return;
  }
  const [first, ...rest] = mark.points;
  context.beginPath();
  if (rest.every(([x, y]) => x === first[0] && y === first[1])) {
    // A browser does not draw a line without length.
    context.arc(first[0] * scale, first[1] * scale, mark.radius * scale, 0, 2 * Math.PI);
    context.fill();
    return;
  }
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = 2 * mark.radius * scale;
  context.moveTo(first[0] * scale, first[1] * scale);
  for (const [x, y] of rest) context.lineTo(x * scale, y * scale);
  context.stroke();
}

/**
 * Fill the covered pixels with one colour.
 * @param {CanvasRenderingContext2D} context
 * @param {string} paint
 */
function colour(context, paint) {
  context.globalCompositeOperation = "source-in";
  context.fillStyle = paint;
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
}

/**
 * The covered fraction of a drawing and its position.
 * @param {HTMLCanvasElement} canvas
 */
function measure(canvas) {
  const context = drawing(COUNTED_PX, COUNTED_PX);
  context.drawImage(canvas, 0, 0, COUNTED_PX, COUNTED_PX);
  const { data } = context.getImageData(0, 0, COUNTED_PX, COUNTED_PX);
  let sum = 0;
  let left = COUNTED_PX;
  for (let i = 0; i < COUNTED_PX ** 2; i++) {
    const alpha = data[4 * i + 3];
    sum += alpha;
    if (alpha) left = Math.min(left, i % COUNTED_PX);
  }
  return { coverage: sum / 255 / COUNTED_PX ** 2, left: left / COUNTED_PX };
}
