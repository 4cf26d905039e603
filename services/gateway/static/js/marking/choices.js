/** The candidates of an ambiguous click, as thumbnails to choose from. */

import { byId, create, drawing } from "../page/dom.js";
import { t } from "../page/texts.js";

/**
 * @typedef {import("../stage/pane.js").Pane} Pane
 * @typedef {import("./candidate.js").Candidate} Candidate
 */

const THUMB_PX = 96;
const SEARCHED_PX = 64;

/** Shows the candidates of one pane. Hidden if there is no choice. */
export class Choices {
  #box = byId("candidates", HTMLElement);
  /** @type {readonly Candidate[]} */
  #shown = [];

  /** @param {Pane} pane */
  show(pane) {
    const { candidates, chosen } = pane.mask.state;
    const pointing = pane.toolName === "click" || pane.toolName === "box";
    const several = candidates.length > 1 && pointing && pane.mode === "mark";
    this.#box.hidden = !several;
    if (!several) return;
    if (candidates !== this.#shown) {
      this.#shown = candidates;
      this.#box.replaceChildren(...candidates.map((candidate, index) => this.#button(pane, candidate, index)));
    }
    for (const [index, button] of [...this.#box.children].entries()) button.ariaPressed = String(index === chosen);
  }

  /**
   * @param {Pane} pane
   * @param {Candidate} candidate
   * @param {number} index
   */
  #button(pane, candidate, index) {
    const context = drawing(THUMB_PX, THUMB_PX);
    const label = t("Candidate {number} of {count}", { number: index + 1, count: pane.mask.state.candidates.length });
    const button = create("button", { type: "button", className: "choice", ariaLabel: label }, context.canvas);
    button.addEventListener("click", () => pane.choose(index));
    const preview = pane.photo?.preview;
    candidate.load().then(
      () => preview && candidate.preview && cutOut(context, preview, candidate.preview),
      () => button.remove(), // it can no longer be chosen
    );
    return button;
  }
}

/**
 * The object alone, close up, with its surroundings faint.
 * @param {CanvasRenderingContext2D} context
 * @param {HTMLCanvasElement} photo
 * @param {HTMLCanvasElement} mask
 */
function cutOut(context, photo, mask) {
  const object = drawing(photo.width, photo.height);
  object.drawImage(mask, 0, 0);
  object.globalCompositeOperation = "source-in";
  object.drawImage(photo, 0, 0);
  const { x, y, side } = around(mask);
  context.imageSmoothingQuality = "high";
  context.globalAlpha = 0.2;
  context.drawImage(photo, x, y, side, side, 0, 0, THUMB_PX, THUMB_PX);
  context.globalAlpha = 1;
  context.drawImage(object.canvas, x, y, side, side, 0, 0, THUMB_PX, THUMB_PX);
}

/**
 * A square around the marked area, in pixels of the mask's preview.
 * @param {HTMLCanvasElement} mask
 */
function around(mask) {
  const small = drawing(SEARCHED_PX, SEARCHED_PX);
  small.drawImage(mask, 0, 0, SEARCHED_PX, SEARCHED_PX);
  const { data } = small.getImageData(0, 0, SEARCHED_PX, SEARCHED_PX);
  const marked = Array.from({ length: SEARCHED_PX ** 2 }, (_, i) => i).filter((i) => data[4 * i + 3] > 0);
  const xs = marked.map((i) => ((i % SEARCHED_PX) + 0.5) * (mask.width / SEARCHED_PX));
  const ys = marked.map((i) => (Math.floor(i / SEARCHED_PX) + 0.5) * (mask.height / SEARCHED_PX));
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const side = Math.min(Math.max(right - left, bottom - top, mask.height / 4) * 1.3, Math.max(mask.width, mask.height));
  return { x: (left + right - side) / 2, y: (top + bottom - side) / 2, side };
}
