/** The keyboard's pointer on a photo: arrows move it, Enter presses it. */

import { t } from "../page/texts.js";
import { strokeVisibly } from "./layers.js";

/**
 * @typedef {import("./stage.js").Stage} Stage
 * @typedef {import("../marking/tools.js").Tool} Tool
 * @typedef {import("./view.js").View} View
 */

const STEP_PX = 8;
const FAR_PX = 48;
const FINE_PX = 1;
const QUIET_MS = 500;

/** @type {Record<string, [number, number]>} */
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Shown only while the keyboard is used. */
export class Crosshair {
  visible = false;
  /** @type {[number, number]} in pixels of the photo */
  at = [0, 0];
  #pressed = false;
  #timer = 0;

  /**
   * @param {Stage} stage
   * @param {() => Tool | null} tool
   * @param {(text: string) => void} announce
   */
  constructor(stage, tool, announce) {
    this.stage = stage;
    this.tool = tool;
    this.announce = announce;
    stage.canvas.addEventListener("keydown", (event) => this.#key(event));
    stage.canvas.addEventListener("pointerdown", () => this.#hide());
    stage.canvas.addEventListener("blur", () => this.#hide());
  }

  /**
   * Move to the centre, for a new photo.
   * @param {number} width
   * @param {number} height
   */
  centre(width, height) {
    this.#hide();
    this.at = [width / 2, height / 2];
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {View} view
   */
  paint(context, view) {
    if (!this.visible) return;
    const [x, y] = view.toStage(...this.at);
    const lines = new Path2D();
    for (const [dx, dy] of Object.values(DIRECTIONS)) {
      lines.moveTo(x + 5 * dx, y + 5 * dy);
      lines.lineTo(x + 18 * dx, y + 18 * dy);
    }
    lines.moveTo(x + 1, y);
    lines.arc(x, y, 1, 0, 2 * Math.PI);
    strokeVisibly(context, lines);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const tool = this.tool();
    if (!tool) return;
    const direction = DIRECTIONS[event.key];
    if (direction) this.#go(direction, event);
    else if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) this.#press(tool, event.altKey);
    else if (event.key === "Escape" && this.#pressed) this.#drop(tool);
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.stage.repaint();
  }

  /**
   * @param {[number, number]} direction
   * @param {KeyboardEvent} event
   */
  #go([dx, dy], event) {
    this.visible = true;
    const step = event.shiftKey ? FAR_PX : event.ctrlKey ? FINE_PX : STEP_PX;
    const [x, y] = this.stage.view.toStage(...this.at);
    this.at = this.stage.view.toPhoto(x + dx * step, y + dy * step);
    if (this.#pressed) this.tool()?.move(this.#touch(false));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.announce(`${Math.round(this.at[0])}, ${Math.round(this.at[1])}`), QUIET_MS);
  }

  /**
   * @param {Tool} tool
   * @param {boolean} opposite
   */
  #press(tool, opposite) {
    this.visible = true;
    if (!this.#pressed) tool.down(this.#touch(opposite));
    if (this.#pressed || !tool.drags) tool.up(this.#touch(opposite));
    this.#pressed = tool.drags && !this.#pressed;
    if (tool.drags) this.announce(this.#pressed ? t("Started; Enter ends it.") : t("Ended."));
  }

  /** @param {Tool} tool */
  #drop(tool) {
    tool.cancel();
    this.#pressed = false;
    this.announce(t("Stopped."));
  }

  #hide() {
    if (this.#pressed) this.tool()?.cancel();
    this.#pressed = false;
    this.visible = false;
    this.stage.repaint();
  }

  /** @param {boolean} opposite */
  #touch(opposite) {
    return { point: this.at, scale: this.stage.view.scale, opposite };
  }
}
