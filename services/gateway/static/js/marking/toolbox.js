/** The tool rail and the options below the photo. Both show the state of the active pane. */

import { byId, inside } from "../page/dom.js";

/**
 * @typedef {import("../stage/pane.js").Pane} Pane
 * @typedef {import("../stage/pane.js").ToolName} ToolName
 * @typedef {import("./tools.js").ToolOptions} ToolOptions
 */

const BRUSH_STEP = 1.2;

/** Fires `tool` after another tool is set on the pane. */
export class Toolbox extends EventTarget {
  /** Undo and redo, over the strokes of the active pane and beyond.
   * @type {{canUndo: boolean, canRedo: boolean, undo: () => void, redo: () => void} | null} */
  steps = null;
  /** @type {ToolOptions} */
  options = { brushPx: 36, adds: true };
  #rail = byId("rail", HTMLElement);
  #sign = byId("sign", HTMLElement);
  #brush = byId("brush-options", HTMLElement);
  #size = byId("brush-size", HTMLInputElement);
  #sizeText = byId("brush-size-text", HTMLOutputElement);
  #snap = byId("snap", HTMLButtonElement);

  /** @param {() => Pane} pane */
  constructor(pane) {
    super();
    this.pane = pane;
    this.#rail.addEventListener("click", (event) => this.#press(event));
    this.#rail.addEventListener("keydown", (event) => this.#walk(event));
    this.#sign.addEventListener("click", (event) => {
      const button = event.target instanceof Element ? event.target.closest("button") : null;
      if (button) this.setSign(button.dataset.sign === "add");
    });
    this.#size.addEventListener("input", () => this.#resize(this.#size.valueAsNumber));
    this.#snap.addEventListener("click", () => this.pane().snap());
  }

  /** @param {ToolName} name */
  choose(name) {
    const pane = this.pane();
    if (pane.mode !== "mark") return;
    pane.toolName = name;
    this.refresh();
    pane.repaint();
    this.dispatchEvent(new Event("tool"));
  }

  /** @param {boolean} adds */
  setSign(adds) {
    this.options.adds = adds;
    this.refresh();
  }

  /** @param {-1 | 1} direction */
  resizeBrush(direction) {
    const wanted = Math.round(this.options.brushPx * BRUSH_STEP ** direction) + direction;
    this.#resize(Math.min(Number(this.#size.max), Math.max(Number(this.#size.min), wanted)));
    this.pane().repaint();
  }

  /**
   * Run the action of a rail button or its shortcut.
   * @param {string} action
   */
  act(action) {
    const pane = this.pane();
    if (action !== "auto") pane.stop(); // a pending response would revert the undo
    if (action === "undo") this.steps?.undo();
    else if (action === "redo") this.steps?.redo();
    else if (!pane.photo || pane.mode !== "mark") return;
    else if (action === "auto") pane.auto();
    else if (action === "clear") pane.mask.clear();
  }

  /** Show the state of the active pane. */
  refresh() {
    const { toolName, mask, photo, mode } = this.pane();
    const usable = photo !== null && mode === "mark";
    for (const button of this.#rail.querySelectorAll("button")) {
      const { tool, action } = button.dataset;
      if (tool) button.setAttribute("aria-pressed", String(tool === toolName));
      const can = { undo: this.steps?.canUndo, redo: this.steps?.canRedo, clear: usable && !mask.isBlank };
      const able = action && action in can ? can[/** @type {keyof typeof can} */ (action)] : usable;
      button.setAttribute("aria-disabled", String(!able));
    }
    this.#sign.hidden = !usable || toolName !== "click";
    inside(this.#sign, "[data-sign=add]", HTMLElement).ariaPressed = String(this.options.adds);
    inside(this.#sign, "[data-sign=subtract]", HTMLElement).ariaPressed = String(!this.options.adds);
    this.#brush.hidden = !usable || (toolName !== "brush" && toolName !== "eraser");
    this.#snap.hidden = this.#brush.hidden || mask.isBlank;
    this.#letFocusIn();
  }

  /** @param {number} size */
  #resize(size) {
    this.options.brushPx = size;
    this.#size.value = this.#sizeText.value = String(size);
  }

  /** @param {Event} event */
  #press(event) {
    const button = event.target instanceof Element ? event.target.closest("button") : null;
    if (!button || button.ariaDisabled === "true") return;
    if (button.dataset.tool) this.choose(/** @type {ToolName} */ (button.dataset.tool));
    if (button.dataset.action) this.act(button.dataset.action);
  }

  /**
   * A toolbar is one Tab stop; arrow keys move inside it.
   * @param {KeyboardEvent} event
   */
  #walk(event) {
    const forward = event.key === "ArrowDown" || event.key === "ArrowRight";
    if (!forward && event.key !== "ArrowUp" && event.key !== "ArrowLeft") return;
    const buttons = [...this.#rail.querySelectorAll("button")];
    const at = buttons.findIndex((button) => button === document.activeElement);
    const next = buttons[(at + (forward ? 1 : buttons.length - 1)) % buttons.length];
    event.preventDefault();
    next.focus();
    this.#letFocusIn(next);
  }

  /** @param {Element} [wanted] */
  #letFocusIn(wanted) {
    const buttons = [...this.#rail.querySelectorAll("button")];
    const focused = buttons.find((button) => button === document.activeElement);
    const stop = wanted ?? focused ?? buttons.find((button) => button.ariaPressed === "true") ?? buttons[0];
    for (const button of buttons) button.tabIndex = button === stop ? 0 : -1;
  }
}
