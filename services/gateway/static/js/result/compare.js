/** Before and after in one frame, with a divider that the pointer drags and the arrow keys move. */

import { byId } from "../page/dom.js";
import { t } from "../page/texts.js";
import { compareLayer } from "../stage/layers.js";

/**
 * @typedef {import("../stage/pane.js").Pane} Pane
 * @typedef {import("../photo/photo.js").Photo} Photo
 * @typedef {import("../marking/tools.js").Touch} Touch
 * @typedef {{preview: CanvasImageSource}} Shown  as large as the screen needs it
 */

const KEY_STEP = 0.02;
const PAGE_STEP = 0.1;
const HOLD_MS = 350;
const SLACK_PX = 6; // a finger always moves a little

/** @type {Record<string, (at: number) => number>} */
const KEYS = {
  ArrowLeft: (at) => at - KEY_STEP,
  ArrowDown: (at) => at - KEY_STEP,
  ArrowRight: (at) => at + KEY_STEP,
  ArrowUp: (at) => at + KEY_STEP,
  PageDown: (at) => at - PAGE_STEP,
  PageUp: (at) => at + PAGE_STEP,
  Home: () => 0,
  End: () => 1,
};

/** Covers a pane while it is shown. */
export class Compare {
  drags = true;
  at = 0.5;
  /** The whole original is shown, while a key, a finger or a button is held. */
  #isHeld = false;
  #timer = 0;
  /** Where the pointer was pressed, until it moves.
   * @type {[number, number] | null} */
  #from = null;
  /** @type {{before: Photo, after: Shown} | null} */
  #pair = null;
  #handle = byId("split", HTMLElement);
  #corners = [byId("corner-before", HTMLElement), byId("corner-after", HTMLElement)];

  /** @param {Pane} pane */
  constructor(pane) {
    this.pane = pane;
    pane.stage.addEventListener("view", () => this.#place());
    this.#handle.addEventListener("keydown", (event) => this.#key(event));
    this.#handle.addEventListener("pointerdown", (event) => this.#handle.setPointerCapture(event.pointerId));
    this.#handle.addEventListener("pointermove", (event) => this.#drag(event));
  }

  /**
   * @param {Photo} before
   * @param {Shown} after
   * @param {number} at  the first position of the divider, 0 to 1
   * @param {string} name  of the picture on the right
   */
  show(before, after, at, name = t("After")) {
    this.#pair = { before, after };
    this.#corners[1].textContent = name;
    this.at = at;
    const pair = () => ({ before: before.preview, after: after.preview, at: this.#isHeld ? 1 : this.at });
    this.pane.cover({ tool: this, layers: [compareLayer(pair)] });
    for (const part of [this.#handle, ...this.#corners]) part.hidden = false;
    this.#place();
  }

  get isShown() {
    return this.#pair !== null;
  }

  hide() {
    this.hold(false);
    this.#pair = null;
    this.pane.cover(null);
    for (const part of [this.#handle, ...this.#corners]) part.hidden = true;
  }

  focus() {
    this.#handle.focus({ preventScroll: true });
  }

  /**
   * Show the original instead of both, or both again.
   * @param {boolean} isHeld
   */
  hold(isHeld) {
    clearTimeout(this.#timer);
    this.#isHeld = isHeld;
    this.#handle.classList.toggle("held", isHeld);
    this.#corners[1].classList.toggle("held", isHeld);
    this.pane.repaint();
  }

  /** @param {Touch} touch */
  down(touch) {
    this.#from = touch.point;
    this.#timer = setTimeout(() => this.hold(true), HOLD_MS);
  }

  /** @param {Touch} touch */
  move({ point, scale }) {
    if (this.#isHeld || !this.#pair) return;
    if (this.#from && Math.hypot(point[0] - this.#from[0], point[1] - this.#from[1]) * scale < SLACK_PX) return;
    this.#from = null;
    clearTimeout(this.#timer);
    this.#moveTo(point[0] / this.#pair.before.width);
  }

  /** @param {Touch} touch */
  up({ point }) {
    if (!this.#isHeld && this.#from && this.#pair) this.#moveTo(point[0] / this.#pair.before.width);
    this.cancel();
  }

  cancel() {
    this.#from = null;
    this.hold(false);
  }

  paint() {}

  /** @param {PointerEvent} event */
  #drag(event) {
    if (!this.#handle.hasPointerCapture(event.pointerId)) return;
    const { view } = this.pane.stage;
    this.#from = null;
    this.move({ point: view.toPhoto(...this.pane.stage.place(event)), scale: view.scale, opposite: false });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const move = KEYS[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    this.#moveTo(move(this.at));
  }

  /** @param {number} at */
  #moveTo(at) {
    this.at = Math.min(1, Math.max(0, at));
    this.#place();
    this.pane.repaint();
  }

  #place() {
    if (!this.#pair) return;
    const { x, y, width, height } = this.pane.stage.view.frame;
    const { offsetLeft, offsetTop, clientWidth, clientHeight } = this.pane.stage.canvas;
    const top = Math.max(0, y);
    const left = Math.max(0, x);
    const { style } = this.#handle;
    style.left = `${offsetLeft + x + width * this.at}px`;
    style.top = `${offsetTop + top}px`;
    style.height = `${Math.min(clientHeight, y + height) - top}px`;
    const [before, after] = this.#corners;
    before.style.left = `${offsetLeft + left}px`;
    after.style.right = `${offsetLeft + clientWidth - Math.min(clientWidth, x + width)}px`;
    before.style.top = after.style.top = style.top;
    before.style.opacity = this.at > 0.12 ? "1" : "0";
    after.style.opacity = this.at < 0.88 ? "1" : "0";
    const percent = Math.round(this.at * 100);
    this.#handle.setAttribute("aria-valuenow", String(percent));
    this.#handle.setAttribute(
      "aria-valuetext",
      t("{before} percent before, {after} percent after", { before: percent, after: 100 - percent }),
    );
  }
}
