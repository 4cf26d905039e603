/** The layers of a stage, from the bottom up. Each function creates one layer. */

import { coloursOf, drawing } from "../page/dom.js";

/**
 * @typedef {import("./stage.js").Layer} Layer
 * @typedef {import("../photo/photo.js").Photo} Photo
 * @typedef {import("../marking/raster.js").Raster} Raster
 * @typedef {import("../marking/mask.js").Point} Point
 */

const BREATH_MS = 1600;
const still = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * A photo. It is scaled once for all frames of a view: without a GPU that takes longer than the other layers together.
 * @param {() => CanvasImageSource | null} picture
 * @param {() => boolean} [isLive]  whether its pixels change
 * @returns {Layer}
 */
export function pictureLayer(picture, isLive = () => false) {
  /** @type {unknown[]} */
  let last = [];
  /** @type {HTMLCanvasElement | null} */
  let copy = null;
  return (context, view) => {
    const source = picture();
    if (!source) return;
    const { width, height } = context.canvas;
    const now = [source, width, height, ...Object.values(view.frame)];
    const isSame = !isLive() && now.every((value, index) => value === last[index]);
    last = now;
    if (!isSame) {
      copy = null; // a moving view would need a new copy for each frame
      paintPicture(context, view, source);
      return;
    }
    if (!copy) {
      const paper = drawing(width, height, coloursOf(context));
      paper.setTransform(context.getTransform());
      paintPicture(paper, view, source);
      copy = paper.canvas;
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(copy, 0, 0);
  };
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {import("./view.js").View} view
 * @param {CanvasImageSource} source
 */
function paintPicture(context, view, source) {
  const { x, y, width, height } = view.frame;
  lift(context, view);
  context.imageSmoothingEnabled = view.zoom < 6;
  context.imageSmoothingQuality = "high";
  context.drawImage(source, x, y, width, height);
}

/**
 * The tinted mask. It pulses while an edit runs, unless the person wants no motion.
 * @param {() => Raster | null} raster
 * @param {() => {opacity: number, working: boolean}} look
 * @param {() => void} animate  schedules the next frame of the pulse
 * @returns {Layer}
 */
export function maskLayer(raster, look, animate) {
  return (context, view) => {
    const shown = raster();
    const { opacity, working } = look();
    if (!shown || opacity === 0) return;
    const { x, y, width, height } = view.frame;
    const pulses = working && !still.matches;
    if (pulses) animate();
    const breath = pulses ? 0.6 + 0.4 * Math.cos((performance.now() / BREATH_MS) * 2 * Math.PI) : 1;
    context.globalAlpha = opacity * breath;
    context.drawImage(shown.tint.canvas, x, y, width, height);
    context.globalAlpha = Math.min(1, opacity + 0.35);
    context.drawImage(shown.edge.canvas, x, y, width, height);
  };
}

/**
 * The clicks that made the mask: a plus where the object is, a minus where it is not.
 * @param {() => Iterable<{x: number, y: number, positive: boolean, pending?: boolean}>} clicks
 * @returns {Layer}
 */
export function clicksLayer(clicks) {
  return (context, view) => {
    for (const { x, y, positive, pending } of clicks()) {
      const [left, top] = view.toStage(x, y);
      context.globalAlpha = pending ? 0.6 : 1;
      context.fillStyle = positive ? "#fff" : "#1c1a18";
      context.strokeStyle = positive ? "#1c1a18" : "#fff";
      context.lineWidth = 2;
      context.beginPath();
      context.arc(left, top, 8, 0, 2 * Math.PI);
      context.fill();
      context.stroke();
      context.beginPath();
      context.moveTo(left - 3.5, top);
      context.lineTo(left + 3.5, top);
      if (positive) {
        context.moveTo(left, top - 3.5);
        context.lineTo(left, top + 3.5);
      }
      context.stroke();
    }
  };
}

/**
 * Two images in one frame, divided at a fraction of its width.
 * @param {() => {before: CanvasImageSource, after: CanvasImageSource, at: number} | null} pair
 * @returns {Layer}
 */
export function compareLayer(pair) {
  return (context, view) => {
    const shown = pair();
    if (!shown) return;
    const { x, y, width, height } = view.frame;
    lift(context, view);
    context.imageSmoothingQuality = "high";
    context.drawImage(shown.after, x, y, width, height);
    context.beginPath();
    context.rect(x, y, width * shown.at, height);
    context.clip();
    context.drawImage(shown.before, x, y, width, height);
  };
}

/**
 * A soft shadow under the photo.
 * @param {CanvasRenderingContext2D} context
 * @param {import("./view.js").View} view
 */
function lift(context, view) {
  const { x, y, width, height } = view.frame;
  context.shadowColor = "rgb(0 0 0 / .3)";
  context.shadowBlur = 20;
  context.shadowOffsetY = 5;
  context.fillRect(x, y, width, height);
  context.shadowColor = "transparent";
}

/**
 * A line drawn twice, dark under light, so that it shows on any photo.
 * @param {CanvasRenderingContext2D} context
 * @param {Path2D} path
 * @param {number[]} [dashes]
 */
export function strokeVisibly(context, path, dashes = []) {
  context.lineWidth = 3;
  context.strokeStyle = "rgb(0 0 0 / .55)";
  context.stroke(path);
  context.lineWidth = 1.5;
  context.strokeStyle = "#fff";
  context.setLineDash(dashes);
  context.stroke(path);
}
